"""Random changes of masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.draws import Draw
from seethrough.data.masks import HOLE, RIM, Kind, MaskChange, mask_change

SHARES = st.floats(0, 1, exclude_max=True)
SIDE = 64


def disc(radius: int = 20) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(x - SIDE / 2, y - SIDE / 2) < radius


def draw(index: int) -> Draw:
    return Draw(seed=0, stage="train", step=0, index=index, sample=0)


@given(st.sampled_from(["erode", "dilate", "hole"]), SHARES, SHARES)
def test_a_change_is_bounded(kind: Kind, size: float, place: float):
    mask = disc()
    changed = MaskChange(kind, size, place)(mask)
    assert changed.dtype == bool and changed.shape == mask.shape
    if kind == "dilate":
        assert (changed & mask).sum() == mask.sum() < changed.sum()
        assert not (changed & ~disc(20 + int(RIM * SIDE) + 2)).any()
    else:
        assert not (changed & ~mask).any() and changed.sum() < mask.sum()
    if kind == "erode":
        assert (changed & disc(20 - int(RIM * SIDE) - 2)).sum() == disc(16).sum()
    if kind == "hole":
        rows, columns = np.nonzero(mask & ~changed)
        widest = 2 * round(HOLE[1] * SIDE) + 1
        assert max(np.ptp(rows), np.ptp(columns)) < widest


@given(st.sampled_from(["erode", "dilate", "hole"]), SHARES, SHARES)
def test_an_empty_mask_stays_empty(kind: Kind, size: float, place: float):
    assert not MaskChange(kind, size, place)(np.zeros((SIDE, SIDE), bool)).any()


def test_sizes_and_places_differ():
    holes = {MaskChange("hole", 0.5, place / 10)(disc()).tobytes() for place in range(10)}
    assert len(holes) == 10
    left = [MaskChange("erode", size, 0)(disc()).sum() for size in (0.0, 0.6)]
    assert left[0] > left[1]


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 400)])
def test_the_probability_is_kept_at_its_ends(probability: float, expected: int):
    changes = [mask_change(draw(index), probability) for index in range(400)]
    assert sum(change is not None for change in changes) == expected


def test_a_change_is_a_function_of_the_draw():
    changes = [mask_change(draw(index), 0.5) for index in range(400)]
    assert changes == [mask_change(draw(index), 0.5) for index in range(400)]
    made = [change for change in changes if change]
    assert 150 < len(made) < 250
    assert {change.kind for change in made} == {"erode", "dilate", "hole"}
