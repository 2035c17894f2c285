"""The configuration that DeepSpeed is given."""

from typing import Any, Literal

import pytest
from accelerate.utils import DeepSpeedPlugin
from deepspeed.runtime.zero.config import get_zero_config

from seethrough.engine.deepspeed_config import deepspeed_config
from seethrough.recipe import evolve
from seethrough.recipes.layerdiff import LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.recipes.training import DeepSpeed, TrainStage


def published(zero_stage: int, processes: int, micro_batch: int, accumulation: int) -> Any:
    """What accelerate makes of a published set-up: bf16, no offload, clipping at 1."""
    plugin = DeepSpeedPlugin(
        zero_stage=zero_stage,
        gradient_accumulation_steps=accumulation,
        gradient_clipping=1.0,
        offload_optimizer_device="none",
        offload_param_device="none",
        zero3_init_flag=False,
    )
    plugin.set_mixed_precision("bf16")
    plugin.deepspeed_config_process(
        must_match=False,
        train_micro_batch_size_per_gpu=micro_batch,
        train_batch_size=micro_batch * accumulation * processes,
    )
    return plugin.deepspeed_config


def distributed(
    stage: TrainStage, zero_stage: Literal[1, 2], processes: int, batch: int
) -> TrainStage:
    return evolve(
        stage,
        data=evolve(stage.data, global_batch=batch),
        deepspeed=DeepSpeed(zero_stage=zero_stage),
        hardware=evolve(stage.hardware, processes=processes),
    )


@pytest.mark.parametrize(
    ("stage", "micro_batch", "accumulation"),
    [(LayerDiff2DTrain(), 8, 1), (LayerDiff3DTrain(), 1, 8)],
    ids=["2D", "3D"],
)
@pytest.mark.parametrize(("zero_stage", "processes"), [(2, 4), (1, 8)], ids=["4 GPUs", "8 GPUs"])
def test_the_published_set_ups(
    stage: TrainStage,
    micro_batch: int,
    accumulation: int,
    zero_stage: Literal[1, 2],
    processes: int,
) -> None:
    batch = micro_batch * accumulation * processes
    section = distributed(stage, zero_stage, processes, batch)
    ours = deepspeed_config(section, section.accumulation)
    theirs = published(zero_stage, processes, micro_batch, accumulation)
    for name in (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
    ):
        assert ours[name] == theirs[name], name
    for name in ("bf16", "fp16"):
        assert ours[name]["enabled"] == theirs[name]["enabled"], name
    # With all that DeepSpeed adds where nothing is said.
    assert get_zero_config(ours).model_dump() == get_zero_config(theirs).model_dump()


def test_every_field_reaches_deepspeed() -> None:
    section = DeepSpeed(
        zero_stage=3,
        offload_optimizer="cpu",
        offload_parameters="nvme",
        nvme_path="/disk",
        reduce_bucket_size=11,
        allgather_bucket_size=12,
        overlap_comm=False,
        prefetch_bucket_size=13,
        persistence_threshold=14,
        max_live_parameters=15,
        sub_group_size=16,
    )
    stage = evolve(LayerDiff3DTrain(), deepspeed=section)
    config = get_zero_config(deepspeed_config(stage, 1))
    assert config.offload_optimizer is not None and config.offload_param is not None
    assert (config.offload_optimizer.device, config.offload_optimizer.pin_memory) == ("cpu", True)
    assert (config.offload_param.device, str(config.offload_param.nvme_path)) == ("nvme", "/disk")
    assert (config.reduce_bucket_size, config.allgather_bucket_size) == (11, 12)
    assert config.overlap_comm is False
    assert (config.prefetch_bucket_size, config.param_persistence_threshold) == (13, 14)
    assert (config.max_live_parameters, config.sub_group_size) == (15, 16)
