"""Pictures beside each other, over a checkerboard where they are transparent."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

CHECKER = (0.45, 0.55)
"""Gray levels of the board, as in LayerDiffuse."""


def picture_grid(pictures: Sequence[Tensor], columns: int, squares: int = 8) -> Image.Image:
    """One RGB picture of straight RGBA tensors (4, H, W) in [0, 1], all of one size, row by row.

    `squares` is the number of the board's squares along a side.
    """
    _, height, width = pictures[0].shape
    rows = -(-len(pictures) // columns)
    canvas = np.ones((rows * height, columns * width, 3), np.float32)
    board_rows = np.arange(height) * squares // height
    board_columns = np.arange(width) * squares // width
    odd = (board_rows[:, None] + board_columns[None]) % 2
    board = np.where(odd, CHECKER[1], CHECKER[0])[..., None]
    for place, picture in enumerate(pictures):
        rgba = picture.float().clamp(0, 1).permute(1, 2, 0).numpy()
        top, left = place // columns * height, place % columns * width
        shown = rgba[..., :3] * rgba[..., 3:] + board * (1 - rgba[..., 3:])
        canvas[top : top + height, left : left + width] = shown
    return Image.fromarray(np.rint(canvas * 255).astype(np.uint8))
