"""Parts in the pixels of the picture that they were found in, in place of the model's canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import cv2
import numpy as np

from seethrough.data.layout import Box
from seethrough.inference.composite import Image8, Placed, Plane
from seethrough.inference.head_crop import Square
from seethrough.inference.parts import ALPHA_THRESHOLD, PAGE_COLORED, Part, cut_part
from seethrough.inference.resample import FloatBox, resample


def at_picture_size(parts: Sequence[Part], canvas: Square, picture: Image8) -> list[Part]:
    """Bring parts of the canvas to the size and place that they have in the picture.

    Names, order and median depths stay. The canvas decides how fine the parts are, but those of
    `PAGE_COLORED` take their colour from the picture again, pixel by pixel.

    Args:
        parts: what lies on the canvas.
        canvas: where the picture lies on it.
        picture: (H, W, 4) straight RGBA, which the canvas shows.

    Returns:
        Parts of a canvas of H x W; one that shrinks to nothing is left out.
    """
    brought = (_bring(part, canvas, picture) for part in parts)
    return [part for part in brought if part is not None]


def _bring(part: Part, canvas: Square, picture: Image8) -> Part | None:
    box = _box(part.box, canvas)
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        return None
    scale = canvas.resolution / canvas.side
    source = (
        (left + canvas.left) * scale - part.box[0],
        (top + canvas.top) * scale - part.box[1],
        (right + canvas.left) * scale - part.box[0],
        (bottom + canvas.top) * scale - part.box[1],
    )
    size = (right - left, bottom - top)
    rgba = resample(part.rgba, source, size)
    if not (rgba[..., 3] > ALPHA_THRESHOLD).any():
        return None
    if part.tag in PAGE_COLORED:
        rgba[..., :3] = picture[top:bottom, left:right, :3]
    placed = Placed(name=part.name, box=box, rgba=rgba)
    depth = _depth(part, source, size)
    return attrs.evolve(cut_part(placed, part.tag, depth), depth_median=part.depth_median)


def _box(box: Box, canvas: Square) -> Box:
    """The picture's pixels that a box of the canvas reaches, a canvas pixel of soft edge added."""
    scale = canvas.side / canvas.resolution
    left, top = (
        max(math.floor((start - 1) * scale) - pad, 0)
        for start, pad in zip(box[:2], (canvas.left, canvas.top), strict=True)
    )
    right, bottom = (
        min(math.ceil((end + 1) * scale) - pad, size)
        for end, pad, size in zip(
            box[2:], (canvas.left, canvas.top), (canvas.width, canvas.height), strict=True
        )
    )
    return left, top, right, bottom


def _depth(part: Part, source: FloatBox, size: tuple[int, int]) -> Plane:
    """The depth of each pixel: that of the nearest pixels of the part, and of nothing else."""
    width, height = size
    x1, y1, x2, y2 = source
    columns = x1 + (np.arange(width, dtype=np.float32) + 0.5) * ((x2 - x1) / width) - 0.5
    rows = y1 + (np.arange(height, dtype=np.float32) + 0.5) * ((y2 - y1) / height) - 0.5
    solid = (part.rgba[..., 3] > ALPHA_THRESHOLD).astype(np.float32)
    x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))

    def plane(values: Plane) -> Plane:
        found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, np.float32)

    weight = plane(solid)
    weighted = plane(part.depth * solid)
    median = np.full_like(weight, part.depth_median)
    return np.divide(weighted, weight, out=median, where=weight > 1e-3)
