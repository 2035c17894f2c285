"""Masks as pictures."""

import numpy as np

from seethrough.inference.mask_picture import (
    FOUND,
    MISSED,
    TINT,
    WRONG,
    comparison,
    grey,
    overlay,
)

PHOTO = np.full((20, 30, 3), 100, np.uint8)


def box(left: int, right: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[5:15, left:right] = True
    return mask


def test_an_overlay_leaves_the_rest_of_the_photo() -> None:
    picture = overlay(PHOTO, box(10, 20))
    assert picture.shape == PHOTO.shape and picture.dtype == np.uint8
    assert (picture[:4] == 100).all() and (picture[:, :8] == 100).all()
    assert tuple(picture[5, 12]) == TINT  # the edge
    np.testing.assert_allclose(picture[10, 15], 0.6 * 100 + 0.4 * np.array(TINT), atol=1)
    assert (PHOTO == 100).all()
    assert (overlay(PHOTO, box(0, 0)) == PHOTO).all()


def test_a_comparison_tells_found_missed_and_wrong_apart() -> None:
    picture = comparison(PHOTO, found=box(5, 15), true=box(10, 20)).astype(int)
    for column, colour in ((7, WRONG), (12, FOUND), (17, MISSED)):
        towards = (picture[10, column] - 100) * (np.array(colour) - 100)
        assert (towards > 0).all()
    assert (picture[10, 25] == 100).all()


def test_levels_are_rounded_as_published() -> None:
    """Number 20 of the parity tests: half a level goes to the even one."""
    values = np.array([0.0, 0.5, 1.0, 126.5 / 255, 1 / 255], np.float32)
    assert grey(values).tolist() == [0, 128, 255, 126, 1]
    assert grey(np.array([True, False])).tolist() == [255, 0]
