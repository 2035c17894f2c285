"""Random changes of colour."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.colours import RANGES, HsvChange, hsv_change
from seethrough.data.draws import Draw

COLOURS = np.random.default_rng(0).integers(0, 256, (3, 16, 16), np.uint8)
CHANGE = st.floats(-1, 1)


def hsv(planes: np.ndarray) -> np.ndarray:
    """(3, h, w) float64: hue in 0..180, saturation and value in 0..255."""
    return cv2.cvtColor(np.dstack(list(planes)), cv2.COLOR_RGB2HSV).transpose(2, 0, 1).astype(float)


def draw(index: int) -> Draw:
    return Draw(seed=0, stage="train", step=0, index=index, sample=0)


def test_hue_is_turned_and_saturation_and_value_are_multiplied():
    planes = np.stack([np.full((2, 2), level, np.uint8) for level in (200, 100, 100)])
    changed = HsvChange(hue=1 / 3, saturation=0.5, value=-0.4)(planes)
    # Red turns to green; the largest channel falls from 200 to 120, the smallest is a quarter.
    assert np.abs(changed[:, 0, 0].astype(int) - [30, 120, 30]).max() <= 1


@given(CHANGE, CHANGE, CHANGE)
def test_black_and_grey_stay_black_and_grey(hue: float, saturation: float, value: float):
    change = HsvChange(hue, saturation, value)
    assert not change(np.zeros((3, 4, 4), np.uint8)).any()
    grey = change(np.full((3, 4, 4), 90, np.uint8))
    assert np.ptp(grey) == 0 and abs(int(grey[0, 0, 0]) - 90 * (1 + value)) <= 0.5


@given(CHANGE)
def test_value_is_clipped(value: float):
    changed = hsv(HsvChange(0, 0, value)(COLOURS))
    expected = np.clip(hsv(COLOURS)[2] * (1 + value), 0, 255)
    assert np.abs(changed[2] - expected).max() <= 1


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 400)])
def test_the_probability_is_kept_at_its_ends(probability: float, expected: int):
    changes = [hsv_change(draw(index), probability) for index in range(400)]
    assert sum(change is not None for change in changes) == expected


def test_changes_are_uniform_in_their_ranges_and_functions_of_the_draw():
    changes = [hsv_change(draw(index), 1.0) for index in range(1000)]
    assert changes == [hsv_change(draw(index), 1.0) for index in range(1000)]
    found = np.array([(c.hue, c.saturation, c.value) for c in changes if c is not None])
    assert (np.abs(found) <= RANGES).all()
    assert np.abs(found.mean(0) / RANGES).max() < 0.06
    assert np.allclose(found.std(0) / RANGES, 3**-0.5, rtol=0.06)
