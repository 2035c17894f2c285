"""Where the pieces of a character lie on a sample's page, and how large.

All pieces are brought to the page by one transform, on one grid: edges that met in the character
still meet. Coordinates of the character's canvas are called source, those of the page's part that
holds the character are called frame.
"""

import math
from collections.abc import Iterable
from fractions import Fraction

import attrs
import cv2
import numpy as np

from seethrough.data.layout import Box
from seethrough.recipes.render import PageGeometry

Image8 = np.ndarray
"""uint8; docstrings give shapes."""

GRID = 64
"""Scales are multiples of 1/64: then every 64th pixel of the source begins one of the frame."""


@attrs.frozen
class Frame:
    """What of the source is shown, and its scale."""

    crop: Box
    """The shown part of the source."""
    scale: Fraction
    """Pixels of the frame for one of the source, at most 1."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frame."""
        x1, y1, x2, y2 = self.crop
        return math.ceil((y2 - y1) * self.scale), math.ceil((x2 - x1) * self.scale)


@attrs.frozen
class Placement:
    """Where a frame stands on its page."""

    size: tuple[int, int]
    """Height and width of the page."""
    corner: tuple[int, int]
    """x and y of the frame's first pixel."""

    def box(self, box: Box) -> Box:
        """A box of the frame as one of the page."""
        (x, y), (x1, y1, x2, y2) = self.corner, box
        return x1 + x, y1 + y, x2 + x, y2 + y


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around boxes; there is at least one."""
    corners = np.array(list(boxes))
    x1, y1 = corners[:, :2].min(0).tolist()
    x2, y2 = corners[:, 2:].max(0).tolist()
    return x1, y1, x2, y2


def intersection(box: Box, other: Box) -> Box | None:
    """What two boxes share; None if nothing."""
    x1, y1 = max(box[0], other[0]), max(box[1], other[1])
    x2, y2 = min(box[2], other[2]), min(box[3], other[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def content_box(alpha: Image8) -> Box | None:
    """The box of what is above 0 in (h, w); None where nothing is."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(alpha))
    return (x, y, x + width, y + height) if width else None


def window(box: Box) -> tuple[slice, slice]:
    """Rows and columns of a box."""
    x1, y1, x2, y2 = box
    return slice(y1, y2), slice(x1, x2)


def shrinkage(side: int, longest: int) -> Fraction:
    """The scale that brings a side to at most `longest` pixels: at most 1.

    A multiple of 1/64, or where that is too coarse, 1 over a whole number.
    """
    if side <= longest:
        return Fraction(1)
    coarse = GRID * longest // side
    if coarse >= GRID // 8:
        return Fraction(coarse, GRID)
    return Fraction(1, -(-side // longest))


def choose_scale(random: np.random.Generator, crop: Box, options: PageGeometry) -> Fraction:
    """Draw how large a character is."""
    x1, y1, x2, y2 = crop
    least, most = options.long_side
    return shrinkage(max(x2 - x1, y2 - y1), int(random.integers(least, most + 1)))


def choose_placement(
    random: np.random.Generator, frame: tuple[int, int], options: PageGeometry
) -> Placement:
    """Draw how large a page is, and where on it a frame of (height, width) stands."""
    height, width = frame
    longest = max(frame)
    least, most = (round(longest * factor) for factor in options.page_side)
    side = int(random.integers(least, most + 1))
    page_height = page_width = side
    if height > width:
        page_width = int(random.integers(width, side + 1))
    elif width > height:
        page_height = int(random.integers(height, side + 1))
    y = int(random.integers(page_height - height + 1))
    x = int(random.integers(page_width - width + 1))
    return Placement((page_height, page_width), (x, y))


def to_frame(rgba: Image8, corner: tuple[int, int], frame: Frame) -> tuple[Box, Image8] | None:
    """Bring a picture from the source to the frame.

    (h, w, 4) straight RGBA, whose first pixel lies at `corner` of the source and which lies inside
    the frame's crop -> its box in the frame and its pixels there, straight RGBA, cut to where its
    alpha is above 0, colour 0 where it is 0; None where it is 0 everywhere. Shrunk pixels are means
    over area, of colours weighted by alpha.
    """
    x, y = corner[0] - frame.crop[0], corner[1] - frame.crop[1]
    if frame.scale != 1:
        cell, cell_to = frame.scale.denominator, frame.scale.numerator
        left, top = x // cell, y // cell
        height, width = rgba.shape[:2]
        bottom, right = -(-(y + height) // cell), -(-(x + width) // cell)
        border = (y - top * cell, bottom * cell - y - height)
        border += (x - left * cell, right * cell - x - width)
        rgba = _shrunk(rgba, border, ((right - left) * cell_to, (bottom - top) * cell_to))
        x, y = left * cell_to, top * cell_to
    alpha = cv2.extractChannel(rgba, 3)
    content = content_box(alpha)
    if content is None:
        return None
    rgba = cv2.copyTo(rgba, alpha)[window(content)]
    x1, y1, x2, y2 = content
    return (x1 + x, y1 + y, x2 + x, y2 + y), np.ascontiguousarray(rgba)


def _shrunk(rgba: Image8, border: tuple[int, int, int, int], size: tuple[int, int]) -> Image8:
    """Shrink straight RGBA with a transparent border (top, bottom, left, right) to (w, h)."""
    alpha = cv2.extractChannel(rgba, 3)
    whole = cv2.merge([alpha, alpha, alpha, np.full_like(alpha, 255)])
    # 16 bits, so that faint pixels keep their colours: colour times alpha, and 255 times alpha.
    weighted = cv2.multiply(rgba, whole, dtype=cv2.CV_16U)
    weighted = cv2.copyMakeBorder(weighted, *border, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    weighted = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    weight = cv2.extractChannel(weighted, 3)
    # A quotient by 0 is 0 here. The fourth one is the alpha itself.
    divisor = cv2.merge([weight, weight, weight, np.full_like(weight, 255 * 255)])
    shrunk = cv2.divide(weighted, divisor, scale=255, dtype=cv2.CV_8U)
    return shrunk
