"""Depth as a picture, in colours whose steps look as large as the steps in depth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from seethrough.inference.composite import Image8

BACKGROUND = (128, 128, 128)
"""The colour where there is no depth: grey, which the map does not have."""


def depth_picture(
    depth: npt.NDArray[np.floating],
    mask: npt.NDArray[np.bool_] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> Image8:
    """Colour depth from bright yellow, near, to dark violet, far.

    The map is viridis (van der Walt and Smith, 2015, CC0), from OpenCV: its lightness runs evenly,
    so that it can be read without colour too.

    Args:
        depth: (H, W), small near.
        mask: (H, W), where there is depth; the rest is `BACKGROUND`, and so is NaN. None for all.
        span: the depths of the two ends of the map; what lies beyond has their colours. Pictures
            with the same span compare.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: when the span is empty or the wrong way round.
    """
    near, far = span
    if not near < far:
        raise ValueError(f"the span of a depth picture runs from near to far, not {span}")
    shown = np.isfinite(depth) if mask is None else mask & np.isfinite(depth)
    nearness = np.clip((far - np.where(shown, depth, far)) / (far - near), 0, 1)
    levels = np.rint(nearness * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    picture = np.asarray(cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), np.uint8)
    picture[~shown] = BACKGROUND
    return picture
