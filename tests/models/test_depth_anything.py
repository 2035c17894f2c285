"""Depth Anything V2 against the reference's numbers and transformers' class, and its files."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seethrough.models.depth_anything import DepthAnythingV2
from tests.data.parity import rule


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_reference_vector(dtype: torch.dtype) -> None:
    spec, numbers = rule.read_vector("depth_anything_vits")
    model = DepthAnythingV2(spec["encoder"], spec["features"], spec["out_channels"])
    assert {key: list(v.shape) for key, v in model.state_dict().items()} == spec["keys"]
    rule.fill(model)
    image = rule.normal("input:depth_anything_vits:image", (1, 3, 56, 56))
    with torch.no_grad():
        found = model.to(dtype).eval()(image.to(dtype))
    tolerance = 1e-5 if dtype == torch.float64 else 1e-4
    assert relative_error(found, numbers["depth"]) < tolerance


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()
