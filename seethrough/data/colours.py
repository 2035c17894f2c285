"""Random changes of colour, alike for all pictures of an item."""

import attrs
import cv2
import numpy as np

from seethrough.data.draws import Draw

RANGES = (0.015, 0.6, 0.4)
"""Widest change of hue, as a share of the circle, and of saturation and value, as shares."""


@attrs.frozen
class HsvChange:
    """Hue is turned, saturation and value are multiplied."""

    hue: float
    """By how much hue is turned, as a share of the circle."""
    saturation: float
    """By what share of itself saturation grows."""
    value: float
    """By what share of itself value grows."""

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Change colours: (3, h, w) uint8 RGB -> the same. Grey keeps its hue; black stays."""
        hsv = cv2.cvtColor(cv2.merge(list(planes)), cv2.COLOR_RGB2HSV)  # hue is in 0..179
        levels = np.arange(256)
        hue = np.rint(levels + self.hue * 180) % 180
        saturation = np.rint(np.clip(levels * (1 + self.saturation), 0, 255))
        value = np.rint(np.clip(levels * (1 + self.value), 0, 255))
        table = np.stack([hue, saturation, value], axis=-1).astype(np.uint8)
        return np.stack(cv2.split(cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)))


def hsv_change(draw: Draw, probability: float) -> HsvChange | None:
    """Choose a draw's change, uniform within `RANGES`; None if it has none."""
    chance, *places = draw.numpy("hsv").random(4).tolist()
    if chance >= probability:
        return None
    return HsvChange(
        *((2 * place - 1) * width for place, width in zip(places, RANGES, strict=True))
    )
