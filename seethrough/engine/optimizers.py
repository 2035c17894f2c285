"""The optimizer that a recipe's `optim` section describes."""

import torch
from torch.optim import Optimizer

from seethrough.recipes.training import AdamW, AdamW8bit, AnyOptim
from seethrough.tasks.task import ParameterGroup


def make_optimizer(optim: AnyOptim, groups: list[ParameterGroup]) -> Optimizer:
    """Build the optimizer; each group keeps its `name` and its peak rate as `peak_lr`."""
    params = [
        {"params": group.parameters, "lr": group.lr, "peak_lr": group.lr, "name": group.name}
        for group in groups
    ]
    if isinstance(optim, AdamW):
        # Fused: one kernel a dtype and device, on CPU as on CUDA.
        return torch.optim.AdamW(
            params,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            fused=True,
        )
    if isinstance(optim, AdamW8bit):
        from bitsandbytes.optim.adamw import AdamW8bit as BitsAndBytesAdamW8bit

        return BitsAndBytesAdamW8bit(
            params, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay
        )
    from transformers.optimization import Adafactor as TransformersAdafactor

    return TransformersAdafactor(
        params,
        clip_threshold=optim.clip_threshold,
        decay_rate=optim.decay_rate,
        weight_decay=optim.weight_decay,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )


def set_learning_rates(optimizer: Optimizer, share: float) -> dict[str, float]:
    """Set every group's rate to `share` of its peak; returns the rates by group name."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
    return {str(group["name"]): float(group["lr"]) for group in optimizer.param_groups}
