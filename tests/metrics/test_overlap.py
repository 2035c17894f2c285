import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.metrics.overlap import dice, published_dice_loss


def columns(left: int, right: int) -> torch.Tensor:
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:, left:right] = True
    return mask


def test_dice_is_twice_the_overlap_over_both_areas():
    assert dice(columns(2, 6), columns(4, 8)) == pytest.approx(2 * 20 / 80)
    assert dice(columns(2, 6), columns(2, 6)) == 1.0
    assert dice(columns(0, 2), columns(4, 8)) == 0.0
    assert dice(columns(0, 0), columns(4, 8)) == 0.0
    assert math.isnan(dice(columns(0, 0), columns(0, 0)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.95))
def test_dice_follows_from_the_iou(seed: int, share: float):
    first, second = torch.from_numpy(np.random.default_rng(seed).random((2, 8, 8)) < share)
    union = (first | second).sum().item()
    if union:
        iou = (first & second).sum().item() / union
        assert dice(first, second) == pytest.approx(2 * iou / (1 + iou))


def test_the_published_loss_gives_what_the_published_program_gives():
    ones = torch.ones(10, 10)
    assert published_dice_loss(ones, ones) == pytest.approx(0.4975125, abs=1e-7)
    assert published_dice_loss(0 * ones, ones) == pytest.approx(0.9900990, abs=1e-7)
    assert published_dice_loss(0.5 * ones, ones) == pytest.approx(0.5952381, abs=1e-7)
    assert published_dice_loss(0 * ones, 0 * ones) == 0.0
