"""Colours of depth."""

import cv2
import numpy as np
import pytest

from seethrough.inference.depth_picture import BACKGROUND, depth_picture


def lightness(picture: np.ndarray) -> np.ndarray:
    """CIE L* of RGB pixels, 0 to 100."""
    return cv2.cvtColor((picture / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[..., 0]


def test_near_is_bright_and_steps_look_even() -> None:
    steps = np.diff(lightness(depth_picture(np.linspace(0, 1, 9)[None]))[0])
    assert (steps < 0).all()
    assert steps.std() < 0.25 * abs(steps.mean())


def test_ends_of_the_map() -> None:
    picture = depth_picture(np.array([[0.0, 1.0]]))
    assert picture.tolist() == [[[253, 231, 37], [68, 1, 84]]]
    assert picture.dtype == np.uint8


def test_masked_pixels_and_nan_are_background() -> None:
    depth = np.array([[0.2, 0.2, np.nan]])
    mask = np.array([[True, False, True]])
    picture = depth_picture(depth, mask)
    assert (picture[0, 1:] == BACKGROUND).all()
    assert (picture[0, 0] != BACKGROUND).any()
    assert (depth_picture(depth)[0, 2] == BACKGROUND).all()


def test_a_span_stretches_the_map() -> None:
    inner = depth_picture(np.array([[0.4, 0.6, -9, 9]]), span=(0.4, 0.6))
    whole = depth_picture(np.array([[0.0, 1, 0, 1]]))
    assert (inner == whole).all()
    with pytest.raises(ValueError, match="from near to far"):
        depth_picture(np.zeros((1, 1)), span=(1, 0))
