"""Layers at another size and place."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from seethrough.inference.composite import Image8, content_box, quantize

_FINER = 8
"""A layer this many times as fine as what it is resampled to is halved first."""

FloatBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, not rounded; x1 < x2 and y1 < y2."""


def resample(layer: Image8, box: FloatBox, size: tuple[int, int]) -> Image8:
    """Bring what lies in a box of a layer, (H, W, 4) straight RGBA, to a size (width, height).

    The box is in pixels of the layer and not rounded, so that nothing shifts; where it reaches
    beyond the layer the result is transparent. Colour is weighed by alpha: a transparent pixel has
    no colour of its own, and is black in the result. Returns (height, width, 4).
    """
    width, height = size
    result = np.zeros((height, width, 4), np.uint8)
    if (content := content_box(layer)) is None:
        return result
    # Most layers are small: no more is computed than they reach.
    left, right, x1, x2 = _reached(content[0], content[2], box[0], box[2], width)
    top, bottom, y1, y2 = _reached(content[1], content[3], box[1], box[3], height)
    if left < right and top < bottom:
        part = _resample(layer, (x1, y1, x2, y2), (right - left, bottom - top))
        result[top:bottom, left:right] = part
    return result


def _reached(
    first: int, last: int, start: float, end: float, length: int
) -> tuple[int, int, float, float]:
    """Which of `length` pixels of the result a span of the layer reaches, and their own span."""
    scale = (end - start) / length
    soft = max(1.0, scale)
    low = max(math.floor((first - soft - start) / scale), 0)
    high = min(math.ceil((last + soft - start) / scale), length)
    return low, high, start + low * scale, start + high * scale


def _resample(layer: Image8, box: FloatBox, size: tuple[int, int]) -> Image8:
    width, height = size
    values = layer.astype(np.float32) / 255
    values[..., :3] *= values[..., 3:]
    x1, y1, x2, y2 = box
    # Without this the rim below could become many times as large as the layer.
    while min((x2 - x1) / width, (y2 - y1) / height) > _FINER and not any(
        side % 2 for side in values.shape[:2]
    ):
        rows, columns = values.shape[0] // 2, values.shape[1] // 2
        values = values.reshape(rows, 2, columns, 2, 4).mean(axis=(1, 3))
        x1, y1, x2, y2 = x1 / 2, y1 / 2, x2 / 2, y2 / 2
    rim = math.ceil(max(0.0, -x1, -y1, x2 - values.shape[1], y2 - values.shape[0]))
    values = np.pad(values, ((rim, rim), (rim, rim), (0, 0)))
    shrinks = (x2 - x1) > width and (y2 - y1) > height
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR

    def plane(channel: int) -> npt.NDArray[np.float32]:
        image = Image.fromarray(np.ascontiguousarray(values[..., channel]))
        where = (x1 + rim, y1 + rim, x2 + rim, y2 + rim)
        return np.asarray(image.resize(size, method, box=where))

    alpha = plane(3)
    result = np.zeros((height, width, 4), np.uint8)
    result[..., 3] = quantize(alpha)
    shown = result[..., 3] > 0
    for channel in range(3):
        result[shown, channel] = quantize(plane(channel)[shown] / alpha[shown])
    return result
