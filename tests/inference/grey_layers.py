"""Layers of one grey, for what only looks at where they lie."""

import numpy as np

from seethrough.inference.composite import Image8


def layer(color: int, box: tuple[int, int, int, int], size: tuple[int, int] = (40, 40)) -> Image8:
    """A layer of one grey, opaque in a box."""
    result = np.zeros((*size, 4), np.uint8)
    x1, y1, x2, y2 = box
    result[y1:y2, x1:x2] = (color, color, color, 255)
    return result


LAYERS = {
    "front hair": layer(50, (4, 2, 36, 12)),
    "face": layer(200, (8, 6, 30, 24)),
    "topwear": layer(120, (4, 22, 36, 40)),
    "tail": layer(0, (0, 0, 0, 0)),
}
