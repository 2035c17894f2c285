"""DeepSpeed's configuration as a training stage's recipe describes it. Imports no torch."""

from typing import Any

from seethrough.recipes.training import DeepSpeed, TrainStage


def deepspeed_config(stage: TrainStage, accumulation: int) -> dict[str, Any]:
    """The configuration in DeepSpeed's own terms; `accumulation` micro-batches a process and step.

    Nothing is left open that accelerate would fill in from the environment.
    """
    return {
        "train_batch_size": stage.data.global_batch,
        "train_micro_batch_size_per_gpu": stage.hardware.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": stage.optim.max_grad_norm or 0.0,
        "bf16": {"enabled": stage.optim.precision == "bf16"},
        "fp16": {"enabled": False},
        "zero_optimization": _zero(stage.deepspeed),
        # The recipe's optimizer, on the host too: PyTorch's fused AdamW steps there as fast.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _zero(section: DeepSpeed) -> dict[str, Any]:
    config: dict[str, Any] = {
        "stage": section.zero_stage,
        "reduce_bucket_size": section.reduce_bucket_size,
        "allgather_bucket_size": section.allgather_bucket_size,
        "offload_optimizer": _offload(section.offload_optimizer, section),
        "offload_param": _offload(section.offload_parameters, section),
    }
    if section.overlap_comm is not None:
        config["overlap_comm"] = section.overlap_comm
    if section.zero_stage == 3:
        config |= {
            "stage3_prefetch_bucket_size": section.prefetch_bucket_size,
            "stage3_param_persistence_threshold": section.persistence_threshold,
            "stage3_max_live_parameters": section.max_live_parameters,
            "sub_group_size": section.sub_group_size,
        }
    return config


def _offload(target: str | None, section: DeepSpeed) -> dict[str, Any]:
    if target is None:
        return {"device": "none"}
    # Pinned, so that copies overlap with compute.
    config: dict[str, Any] = {"device": target, "pin_memory": True}
    return config | {"nvme_path": section.nvme_path} if target == "nvme" else config
