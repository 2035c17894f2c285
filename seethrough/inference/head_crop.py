"""Where the head is: from the body pass's `head` layer to the second pass's picture and back.

Three pictures are in play: the source in its own pixels; the canvas, the source centred on a
square and resized to `resolution`, on which all layers end; and the head picture, a crop of the
source brought to `resolution` in the same way. Boxes are (x1, y1, x2, y2), end-exclusive.
"""

from __future__ import annotations

import attrs
import cv2
import numpy as np

from seethrough.data.layout import Box
from seethrough.inference.composite import Image8
from seethrough.inference.resample import resample


@attrs.frozen
class Square:
    """A picture of `width` x `height` centred on a square and resized to `resolution`."""

    width: int
    height: int
    resolution: int

    @property
    def side(self) -> int:
        """Side of the square before the resize."""
        return max(self.width, self.height)

    @property
    def left(self) -> int:
        """Columns of padding left of the picture, before the resize."""
        return (self.side - self.width) // 2

    @property
    def top(self) -> int:
        """Rows of padding above the picture, before the resize."""
        return (self.side - self.height) // 2

    @property
    def content(self) -> tuple[float, float, float, float]:
        """Where the picture lies on the resized square, in its pixels, not rounded."""
        scale = self.resolution / self.side
        right, bottom = self.left + self.width, self.top + self.height
        return self.left * scale, self.top * scale, right * scale, bottom * scale


def head_rect(
    alpha: Image8, threshold: int = 15, speckle: float = 0.05, least: float = 0.0
) -> Box | None:
    """Find the head on its layer's alpha, (R, R) uint8.

    The box of alpha above `threshold`, without connected parts smaller than `speckle` times the
    largest: a stray pixel would enlarge the crop to the whole page. None if the parts cover no
    more than the share `least` of the canvas: specks are no head.
    """
    solid = (alpha > threshold).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    parts = stats[1:]
    if not len(parts):
        return None
    areas = parts[:, cv2.CC_STAT_AREA]
    large = areas >= speckle * areas.max()
    if areas[large].sum() <= least * alpha.size:
        return None
    kept = parts[large]
    corners = kept[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    ends = corners + kept[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    x1, y1 = corners.min(axis=0).tolist()
    x2, y2 = ends.max(axis=0).tolist()
    return x1, y1, x2, y2


def head_box(
    rect: Box, canvas: Square, margin: float = 0.2, margin_below: float = 0.5
) -> Box | None:
    """Map a box on the canvas to the source and give it a margin, as the published pipeline does.

    A side shorter than `margin_below` of the picture's grows at both ends by `margin` of its
    length, by the same amount at both and never beyond the picture. None if the box lies in the
    padding.
    """
    x1, y1, x2, y2 = rect
    sizes = (canvas.width, canvas.height)
    pads = (canvas.left, canvas.top)
    edges: list[tuple[int, int]] = []
    for start, end, size, pad in zip((x1, y1), (x2, y2), sizes, pads, strict=True):
        # Whole numbers: start * side / resolution in floating point may fall short of an integer.
        first = start * canvas.side // canvas.resolution - pad
        length = max((end - start) * canvas.side // canvas.resolution, 1)
        first, last = max(first, 0), min(first + length, size)
        if first >= last:
            return None
        length = last - first
        if length < int(size * margin_below):
            grow = min(first, size - last, int(length * margin))
            first, last = first - grow, last + grow
        edges.append((first, last))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


@attrs.frozen
class Paste:
    """Where the head picture's content lands on the canvas.

    `window` is the smallest box of whole canvas pixels around the crop. `source` is the same
    box in pixels of the head picture, not rounded, so that nothing shifts: it reaches beyond
    the crop by less than a canvas pixel.
    """

    window: Box
    source: tuple[float, float, float, float]
    resolution: int


def paste_box(crop: Box, canvas: Square) -> Paste:
    """Find where the head picture of a crop (in source pixels) lies on the canvas."""
    head = Square(crop[2] - crop[0], crop[3] - crop[1], canvas.resolution)
    columns = _paste_axis(crop[0], crop[2], canvas.left, head.left, canvas, head)
    rows = _paste_axis(crop[1], crop[3], canvas.top, head.top, canvas, head)
    (x1, x2, u1, u2), (y1, y2, v1, v2) = columns, rows
    return Paste((x1, y1, x2, y2), (u1, v1, u2, v2), canvas.resolution)


def _paste_axis(
    first: int, last: int, canvas_pad: int, head_pad: int, canvas: Square, head: Square
) -> tuple[int, int, float, float]:
    resolution = canvas.resolution
    start = (first + canvas_pad) * resolution // canvas.side
    end = -(-(last + canvas_pad) * resolution // canvas.side)

    def in_head(edge: int) -> float:
        # Multiplied before divided: exact where the answer is a whole number.
        pixels = edge * canvas.side + (head_pad - canvas_pad - first) * resolution
        return pixels / head.side

    return start, end, in_head(start), in_head(end)


def paste(layer: Image8, place: Paste) -> Image8:
    """Bring a layer of the head picture, (R, R, 4) straight RGBA, to its place on the canvas.

    Colour is weighed by alpha while it is resampled. Returns (R, R, 4), transparent elsewhere.
    """
    resolution = place.resolution
    canvas = np.zeros((resolution, resolution, 4), np.uint8)
    x1, y1, x2, y2 = place.window
    canvas[y1:y2, x1:x2] = resample(layer, place.source, (x2 - x1, y2 - y1))
    return canvas
