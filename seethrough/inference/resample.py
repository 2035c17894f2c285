"""Layers at another size and place."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from seethrough.inference.composite import Image8, content_box, quantize

_FINER = 8
"""A layer this many times as fine as what it is resampled to is halved first."""


def resample(
    layer: Image8, box: tuple[float, float, float, float], size: tuple[int, int]
) -> Image8:
    """Bring what lies in a box of a layer, (H, W, 4) straight RGBA, to a size (width, height).

    The box (x1, y1, x2, y2), x1 < x2 and y1 < y2, is in pixels of the layer and not rounded, so
    that nothing shifts; where it reaches beyond the layer the result is transparent. Colour is
    weighed by alpha: a transparent pixel has no colour of its own, and is black in the result.
    Returns (height, width, 4).
    """
    width, height = size
    if content_box(layer) is None:
        return np.zeros((height, width, 4), np.uint8)
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
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(values[..., channel])).resize(
                size, method, box=(x1 + rim, y1 + rim, x2 + rim, y2 + rim)
            )
        )
        for channel in range(4)
    ]
    part = np.stack(planes, axis=-1)
    alpha = part[..., 3:]
    color = np.divide(part[..., :3], alpha, out=np.zeros_like(part[..., :3]), where=alpha > 0)
    result = quantize(np.concatenate([color, alpha], axis=-1))
    result[result[..., 3] == 0] = 0
    return result
