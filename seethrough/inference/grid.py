"""Pictures beside each other, over a checkerboard where they are transparent, with labels."""

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL = 512
"""Side of a picture in a grid in pixels, as in the published training pictures."""

CHECKER = (0.45, 0.55)
"""Gray levels of the board, as in LayerDiffuse."""

SQUARES = 8
"""Squares along a side of the board: of 64 px in a cell of 512."""


def picture_grid(
    pictures: Sequence[Tensor], columns: int, labels: Sequence[str] = (), side: int = CELL
) -> Image.Image:
    """One RGB picture of square straight RGBA tensors (4, T, T) in [0, 1], row by row.

    Each is scaled to `side` pixels, whatever its own size. `labels`, if given, has for each
    picture the text to write on it; an empty one writes nothing.
    """
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * side, rows * side), "white")
    for place, picture in enumerate(pictures):
        cell = _over_board(picture, side)
        if labels and labels[place]:
            _write(cell, labels[place])
        grid.paste(cell, (place % columns * side, place // columns * side))
    return grid


def _over_board(picture: Tensor, side: int) -> Image.Image:
    rgba = picture.detach().cpu().float().clamp(0, 1)
    # Scaled with the colour weighted by alpha, so that what is hidden doesn't shine through.
    weighted = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    if weighted.shape[-1] != side:
        size = (side, side)
        weighted = F.interpolate(weighted[None], size, mode="bilinear", antialias=True)[0]
    place = torch.arange(side) * SQUARES // side
    odd = (place[:, None] + place) % 2 == 1
    board = torch.where(odd, CHECKER[1], CHECKER[0])
    shown = weighted[:3] + board * (1 - weighted[3:])
    levels = (shown * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))


def _write(cell: Image.Image, text: str) -> None:
    """Write text at the top left, broken into lines, in the font that comes with Pillow."""
    size = max(cell.width // 16, 8)
    lines = textwrap.wrap(text, width=2 * cell.width // size - 2)
    ImageDraw.Draw(cell).multiline_text(
        (size // 4, size // 8), "\n".join(lines), fill="white", font=ImageFont.load_default(size),
        stroke_width=max(size // 12, 1), stroke_fill="black",
    )  # fmt: skip
