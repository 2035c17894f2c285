"""Masks as pictures: over their photo, in colour."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from seethrough.inference.composite import Image8

TINT = (255, 0, 144)
"""Colour of what is marked: a pink that photos of glass hardly have."""

FOUND, MISSED, WRONG = (0, 200, 80), (230, 40, 40), (40, 80, 255)
"""Colours of a comparison: marked rightly, left out, and marked though it isn't there."""

_SHARE = 0.4
_SIDE_OF_ONE_LINE = 512


def overlay(photo: Image8, mask: npt.NDArray[np.bool_]) -> Image8:
    """A photo, (H, W, 3) RGB, with the inside of a mask, (H, W), tinted and its edge drawn."""
    picture = _tinted(photo, mask, TINT, _SHARE)
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(mask.shape) / _SIDE_OF_ONE_LINE))
    return np.asarray(cv2.drawContours(picture, edges, -1, TINT, width), np.uint8)


def comparison(photo: Image8, found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Image8:
    """A photo, (H, W, 3) RGB, tinted where a mask and the true one, (H, W), have something."""
    picture = _tinted(photo, found & true, FOUND, _SHARE)
    picture = _tinted(picture, true & ~found, MISSED, 2 * _SHARE)
    return _tinted(picture, found & ~true, WRONG, 2 * _SHARE)


def _tinted(
    photo: Image8, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int], share: float
) -> Image8:
    """The photo with a share of a colour where the mask is."""
    mixed = cv2.addWeighted(photo, 1 - share, np.full_like(photo, colour), share, 0)
    return np.where(mask[..., None], np.asarray(mixed, np.uint8), photo)


def grey(mask: npt.NDArray[np.floating] | npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Values in [0, 1] as levels from 0 to 255, halves to the even one, as published."""
    return np.rint(mask.astype(np.float32) * 255).astype(np.uint8)
