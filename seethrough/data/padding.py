"""Colour for transparent pixels: the colours of a layer bled outwards, smoothly.

The latent offset encoder and the pixel decoder see the colour of transparent pixels too. The fill
is a pull-push over an image pyramid: colour weighted by alpha is averaged down to one pixel, and
on the way back each level shows through where the finer one is transparent.

A pixel with any alpha keeps its own colour here, so that the layer over another looks as before,
and the pyramid halves its sides. The published versions have a pyramid of factor 1.2 and blend
such a pixel's colour with the fill, with the weight 1 - (1 - alpha)^2 for its own colour in the
NumPy version and alpha in the torch version.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seethrough.data.crops import premultiply

PUBLISHED_FACTOR = 1.2
"""By how much a level is smaller than the one before in the published pyramid."""


def bleed(rgba: np.ndarray) -> np.ndarray:
    """Fill the colour of transparent pixels: (H, W, 4) uint8 RGBA, straight -> the same.

    Alpha, and colour where alpha is above 0, are unchanged. A layer that is wholly transparent
    is returned as it is, and so is one without a transparent pixel.
    """
    transparent = rgba[..., 3] == 0
    if transparent.all() or not transparent.any():
        return rgba
    height, width = transparent.shape
    half = (max(width // 2, 1), max(height // 2, 1))
    level = cv2.resize(premultiply(rgba), half, interpolation=cv2.INTER_AREA)
    colour = _pull_push(level.astype(np.float32) / 255**2, factor=2)
    filled = np.zeros(level.shape, np.uint8)
    filled[..., :3] = np.rint(np.clip(colour, 0, 1) * 255)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.copyTo(filled, transparent.astype(np.uint8), rgba.copy())


def bleed_as_published(rgba: np.ndarray) -> np.ndarray:
    """Fill as the published NumPy version: (H, W, 4) uint8 RGBA -> colour (H, W, 3) float32.

    Colour is in [0, 1].
    """
    image = rgba.astype(np.float32) / 255
    colour, alpha = image[..., :3], image[..., 3:]
    level = np.dstack([colour * alpha, alpha])
    filled = _pull_push(level, factor=PUBLISHED_FACTOR)
    return np.clip(alpha * colour + (1 - alpha) * filled, 0, 1)


def bleed_batch(argb: Tensor, *, published: bool = False) -> Tensor:
    """Fill the colour of transparent pixels on any device.

    (N, 4, H, W) ARGB, straight, float in [0, 1] -> the same, filled as by `bleed`.
    `published=True` gives the published torch version, whose bilinear pyramid misses pixels.
    """
    alpha, colour = argb[:, :1], argb[:, 1:]
    factor = PUBLISHED_FACTOR if published else 2
    level = torch.cat([alpha, colour * alpha], dim=1)
    levels = [level]
    while min(level.shape[2:]) > 1:
        size = (_smaller(level.shape[2], factor), _smaller(level.shape[3], factor))
        level = _bilinear(level, size) if published else functional.adaptive_avg_pool2d(level, size)
        levels.append(level)
    total = level.sum(dim=(2, 3), keepdim=True)
    filled = total[:, 1:] / total[:, :1].clamp(min=1e-8)
    while levels:
        level = levels.pop()
        filled = level[:, 1:] + _bilinear(filled, (level.shape[2], level.shape[3])) * (
            1 - level[:, :1]
        )
    if not published:
        filled = torch.where(alpha > 0, colour, filled)
    return torch.cat([alpha, filled], dim=1)


def _pull_push(level: np.ndarray, factor: float) -> np.ndarray:
    """Fill premultiplied RGBA (H, W, 4) float32: smooth colour (H, W, 3), 0 if all is empty."""
    levels = [level]
    while min(level.shape[:2]) > 1:
        height, width = (_smaller(side, factor) for side in level.shape[:2])
        level = cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA)
        levels.append(level)
    total = level.sum(axis=(0, 1))
    colour = (total[:3] / max(total[3], 1e-8)).reshape(1, 1, 3)
    while levels:
        level = levels.pop()
        height, width = level.shape[:2]
        colour = cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR)
        colour = level[..., :3] + colour * (1 - level[..., 3:])
    return colour


def _smaller(side: int, factor: float) -> int:
    return max(int(side / factor), 1)


def _bilinear(image: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
