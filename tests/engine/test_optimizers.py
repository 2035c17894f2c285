"""Optimizers from their sections."""

import pytest
import torch
from bitsandbytes.optim.adamw import AdamW8bit as BitsAndBytesAdamW8bit
from torch import nn
from transformers.optimization import Adafactor as TransformersAdafactor

from seethrough.engine.optimizers import make_optimizer, set_learning_rates
from seethrough.recipes.training import Adafactor, AdamW, AdamW8bit, AnyOptim
from seethrough.tasks.task import ParameterGroup


def groups(*parameters: nn.Parameter) -> list[ParameterGroup]:
    return [ParameterGroup(f"g{i}", [p], 0.1 * (i + 1)) for i, p in enumerate(parameters)]


@pytest.mark.parametrize(
    ("section", "kind", "expected"),
    [
        (
            AdamW(betas=(0.5, 0.75), eps=1e-3, weight_decay=0.25),
            torch.optim.AdamW,
            {"betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.25, "fused": True},
        ),
        (
            AdamW8bit(betas=(0.5, 0.75), eps=1e-3, weight_decay=0.25),
            BitsAndBytesAdamW8bit,
            {"betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.25},
        ),
        (
            Adafactor(clip_threshold=2.0, decay_rate=-0.5, weight_decay=0.25),
            TransformersAdafactor,
            {"clip_threshold": 2.0, "decay_rate": -0.5, "weight_decay": 0.25, "beta1": None},
        ),
    ],
    ids=["AdamW", "AdamW8bit", "Adafactor"],
)
def test_sections_become_optimizers(
    section: AnyOptim, kind: type, expected: dict[str, object]
) -> None:
    # From 4096 elements up the 8-bit moments are really of 8 bits.
    first, second = (nn.Parameter(torch.ones(64, 64)) for _ in range(2))
    optimizer = make_optimizer(section, groups(first, second))
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert {name: group[name] for name in expected} == expected
    assert set_learning_rates(optimizer, 0.5) == {"g0": 0.05, "g1": 0.1}
    assert set_learning_rates(optimizer, 0.5) == {"g0": 0.05, "g1": 0.1}
    for parameter in (first, second):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # The same gradient, twice the rate.
    assert 0 < 1 - float(first.mean().detach()) < 1 - float(second.mean().detach())
    if kind is BitsAndBytesAdamW8bit:
        assert optimizer.state[first]["state1"].dtype == torch.uint8
