"""The parts of a page as one picture: in colours over the page, with a legend beside it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seethrough.inference.composite import Image8

PAGE_SHARE = 0.3
"""How much of the page shows through a part."""

LEAST_ROW = 12
"""Height of a legend's row in px, at least."""

_PUBLISHED = (
    "4363d8", "9a6324", "808000", "469990", "000075", "e6194b", "f58231", "ffe119", "bfef45",
    "3cb44b", "42d4f4", "800000",
)  # fmt: skip
"""Colours of the first classes as in the published pictures."""


def part_colour(index: int) -> tuple[int, int, int]:
    """The colour of a class, RGB: the published ones first, then hues apart from each other."""
    if index < len(_PUBLISHED):
        red, green, blue = bytes.fromhex(_PUBLISHED[index])
        return red, green, blue
    # Steps of the golden ratio never come back near a hue that is taken.
    hue = (index * 0.618034) % 1
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.65, 0.9))
    return red, green, blue


def part_picture(
    page: Image8,
    masks: npt.NDArray[np.bool_],
    tags: Sequence[str],
    page_share: float = PAGE_SHARE,
) -> Image8:
    """A page with its parts in colour, and at its right the names of those that it has.

    Args:
        page: (H, W, 3) RGB.
        masks: (C, H, W). Of parts that overlap the later one is over the earlier.
        tags: their names.
        page_share: how much of the page shows through, 0 to 1; at 0 it is white beside the parts.

    Returns:
        (H, W + legend, 3); higher than the page where the legend is.
    """
    shown = page.astype(np.float32) if page_share else np.full(page.shape, 255, np.float32)
    for plane, mask in enumerate(masks):
        colour = np.array(part_colour(plane), np.float32)
        shown[mask] = page_share * shown[mask] + (1 - page_share) * colour
    present = [plane for plane, mask in enumerate(masks) if mask.any()]
    legend = _legend([(tags[plane], part_colour(plane)) for plane in present], page.shape[0])
    return joined([np.rint(shown).astype(np.uint8), legend], axis=1)


def joined(pictures: Sequence[Image8], axis: int) -> Image8:
    """Pictures (h, w, 3) below each other (axis 0) or beside each other (1), on white."""
    other = 1 - axis
    size = max(picture.shape[other] for picture in pictures)
    padded: list[Image8] = []
    for picture in pictures:
        margins = [(0, 0)] * 3
        margins[other] = (0, size - picture.shape[other])
        padded.append(np.pad(picture, margins, constant_values=255))
    return np.concatenate(padded, axis)


def _legend(entries: Sequence[tuple[str, tuple[int, int, int]]], height: int) -> Image8:
    """Names on white with their colours, a row each, no higher than the page if that is legible."""
    row = max(min(height // max(len(entries), 1), height // 16, 48), LEAST_ROW)
    font = ImageFont.load_default(round(0.7 * row))
    width = 2 * row + round(max((font.getlength(name) for name, _ in entries), default=0))
    picture = Image.new("RGB", (width, row * len(entries)), "white")
    draw = ImageDraw.Draw(picture)
    for place, (name, colour) in enumerate(entries):
        top = place * row
        draw.rectangle((row // 4, top + row // 4, row, top + row - row // 8), fill=colour)
        draw.text((row * 5 // 4, top), name, fill="black", font=font)
    return np.asarray(picture)
