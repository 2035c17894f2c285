"""Losses of decoded masks, against plain arithmetic."""

import math

import pytest
import torch

from seethrough.metrics.mask_losses import SLOPE, bce, boundary, dice, near_edges


def half(side: int = 8) -> torch.Tensor:
    """A mask whose left half is transparent."""
    mask = torch.zeros(1, side, side)
    mask[..., : side // 2] = 1
    return mask


def test_a_right_mask_costs_little_and_a_wrong_one_much() -> None:
    mask = half()
    right, wrong = 2 * mask - 1, 1 - 2 * mask
    for loss in (bce, dice, lambda decoded, true: boundary(decoded, true, 2)):
        assert float(loss(right, mask)) < 0.05 < 0.8 < float(loss(wrong, mask))


def test_values() -> None:
    mask, unsure = half(4), torch.zeros(1, 4, 4)
    assert float(bce(unsure, mask)) == pytest.approx(math.log(2))
    # Half of each of 8 pixels found; 8 pixels' worth found in all, and 8 true.
    assert float(dice(unsure, mask)) == pytest.approx(1 - (2 * 4 + 1) / (8 + 8 + 1))
    sure = torch.full((1, 4, 4), 1.0)
    expected = (math.log1p(math.exp(-SLOPE)) + math.log1p(math.exp(SLOPE))) / 2
    assert float(bce(sure, mask)) == pytest.approx(expected, rel=1e-5)


def test_only_what_is_near_an_edge_counts() -> None:
    mask = half()
    near = near_edges(mask, 1)
    assert near[0, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    decoded = 2 * mask - 1
    far = decoded.clone()
    far[..., 0] = -1
    assert torch.equal(boundary(far, mask, 1), boundary(decoded, mask, 1))
    assert float(bce(far, mask)) > float(bce(decoded, mask))


def test_masks_of_one_value_have_losses() -> None:
    for mask in (torch.zeros(1, 4, 4), torch.ones(1, 4, 4)):
        decoded = 2 * mask - 1
        assert float(boundary(decoded, mask, 2)) == 0
        assert 0 <= float(dice(decoded, mask)) < 0.3


def test_each_picture_has_a_value_and_a_wrong_one_a_gradient() -> None:
    """Also where a prediction is far beyond the range of a mask."""
    masks = torch.cat([half(), torch.zeros(1, 8, 8)])
    decoded = torch.full((2, 8, 8), -3.0, dtype=torch.bfloat16, requires_grad=True)
    losses = bce(decoded, masks)
    assert losses.shape == (2,) and losses.dtype == torch.float32
    losses.sum().backward()
    assert decoded.grad is not None and float(decoded.grad[0, 0, 0]) < 0
