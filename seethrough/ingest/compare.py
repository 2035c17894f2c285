"""How closely layers over each other agree with a source's own flat picture."""

from __future__ import annotations

import attrs
import numpy as np

from seethrough.characters.form import Image8


@attrs.frozen
class Agreement:
    """How two pictures agree where either has a pixel."""

    psnr: float
    """Peak signal to noise in dB, of both on white and, unless one is opaque, on black; infinite
    if they are equal."""
    largest: float
    """Largest difference of a channel, of 255."""

    def __str__(self) -> str:
        if self.largest <= 1:
            return f"within {self.largest:.2g} of 255"
        return f"{self.psnr:.1f} dB, at most {self.largest:.0f} of 255"


def agreement(first: Image8, second: Image8) -> Agreement:
    """Compare two straight RGBA pictures of the same size, (H, W, 4) uint8."""
    covered = (first[..., 3] > 0) | (second[..., 3] > 0)
    opaque = any((picture[..., 3] == 255).all() for picture in (first, second))
    one, other = first[covered], second[covered]
    grounds = [255] if opaque else [255, 0]
    difference = np.concatenate([_over(one, ground) - _over(other, ground) for ground in grounds])
    if not difference.size:
        return Agreement(float("inf"), 0)
    error = float(np.square(difference).mean(dtype=np.float64))
    psnr = 10 * np.log10(255**2 / error) if error else float("inf")
    return Agreement(float(psnr), float(np.abs(difference).max()))


def _over(pixels: Image8, ground: int) -> np.ndarray:
    """Pixels (n, 4) on a gray ground: (n, 3) float32, 0 to 255."""
    alpha = pixels[:, 3:].astype(np.float32) / 255
    return pixels[:, :3] * alpha + ground * (1 - alpha)
