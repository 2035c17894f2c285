"""Boxes on the page, and pictures cut out of it and brought to the training size.

The geometry of a page and of its layers is the same by construction: both are cut at one box,
mirrored, centred on a transparent square and resized.
"""

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from seethrough.data.layout import Box


def union_box(boxes: Iterable[Box], height: int, width: int) -> Box:
    """Return the smallest box around all boxes; the whole page if there is none."""
    corners = list(zip(*boxes, strict=True))
    if not corners:
        return 0, 0, width, height
    x1, y1, x2, y2 = corners
    return min(x1), min(y1), max(x2), max(y2)


def alpha_box(alpha: np.ndarray) -> Box:
    """Return the bounding box of alpha > 0 in (H, W); the whole page if there is none."""
    x, y, width, height = cv2.boundingRect((alpha > 0).astype(np.uint8))
    if not width:
        return 0, 0, alpha.shape[1], alpha.shape[0]
    return x, y, x + width, y + height


def enlarge(box: Box, height: int, width: int, fractions: Sequence[float]) -> Box:
    """Move each edge of a box outwards by a share of its distance to the page's edge.

    `fractions` in [0, 1) are those of the left, top, right and bottom edge. Uniform fractions
    make uniform whole numbers from 0 to the distance, both included.
    """
    x1, y1, x2, y2 = box
    room = (x1, y1, width - x2, height - y2)
    left, top, right, bottom = (int(f * (r + 1)) for f, r in zip(fractions, room, strict=True))
    return x1 - left, y1 - top, x2 + right, y2 + bottom


def square(box: Box) -> Box:
    """Return the square around a box that has it in its middle, half a pixel left or up.

    Unlike the zeros around a box that is fitted, what it adds shows the page, and it may reach
    beyond that.
    """
    side = _square(box)
    x = box[0] - (side - (box[2] - box[0])) // 2
    y = box[1] - (side - (box[3] - box[1])) // 2
    return x, y, x + side, y + side


def shrink(box: Box, fractions: Sequence[float]) -> Box:
    """Return a smaller square inside a square box.

    `fractions` in [0, 1) are the share of the side to remove, and where the rest lies from left
    to right and from top to bottom. Of the latter two, uniform ones make uniform whole numbers.
    """
    share, *places = fractions
    side = box[2] - box[0]
    removed = min(round(side * share), side - 1)
    x, y = (corner + int(f * (removed + 1)) for corner, f in zip(box[:2], places, strict=True))
    return x, y, x + side - removed, y + side - removed


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Resize (S, S, C) to (side, side, C): by area when shrinking, bilinear when growing.

    Channels are resized on their own: colour of straight alpha needs `premultiply` first.
    """
    if image.shape[0] == side:
        return image
    method = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)


def premultiply(rgba: np.ndarray) -> np.ndarray:
    """Weigh colour by alpha: (h, w, 4) uint8 RGBA, straight -> uint16, exact, in 0..255 * 255."""
    alpha = cv2.extractChannel(rgba, 3)
    weights = cv2.merge((alpha, alpha, alpha, np.full_like(alpha, 255)))
    return np.multiply(rgba, weights, dtype=np.uint16)


def unpremultiply(weighted: np.ndarray) -> np.ndarray:
    """Undo `premultiply`, rounding; colour is 0 where the rounded alpha is 0."""
    # Right for pixels that are opaque or empty, which most are; the others are divided.
    result = cv2.convertScaleAbs(weighted, alpha=1 / 255)
    alpha = cv2.extractChannel(weighted, 3)
    partial = np.flatnonzero(cv2.inRange(alpha, 1, 255 * 255 - 1))
    pixels = weighted.reshape(-1, 4)[partial].astype(np.float32)
    alpha = pixels[:, 3:]
    pixels[:, :3] *= 255 / alpha
    alpha /= 255
    # An interpolated product may end up above its interpolated weight by its rounding.
    np.minimum(pixels, 255, out=pixels)
    np.rint(pixels, out=pixels)
    pixels *= alpha > 0
    result.reshape(-1, 4)[partial] = pixels
    return result


def argb_planes(rgba: np.ndarray, planes: np.ndarray | None = None) -> np.ndarray:
    """Put alpha first and channels apart: (h, w, 4) uint8 RGBA -> (4, h, w) uint8 ARGB.

    `planes` is where to put it, if not in a new array.
    """
    if planes is None:
        planes = np.empty((4, *rgba.shape[:2]), np.uint8)
    cv2.mixChannels([rgba], [planes[i] for i in range(4)], [3, 0, 0, 1, 1, 2, 2, 3])
    return planes


def fit_page(page: np.ndarray, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut a page, (H, W, C) uint8, at a box: (side, side, C), black around the box.

    Channels are resized on their own: the page's colour holds its background.
    """
    at = (0, 0, page.shape[1], page.shape[0])
    part, x, y = _cut(page, at, box, flip)
    return resize(_on_square(part, x, y, _square(box)), side)


def fit_layer(layer: np.ndarray, at: Box, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut a layer that lies at `at`, uint8 RGBA with straight alpha, at a box of the page.

    Returns (side, side, 4), aligned with `fit_page` of the same box; transparent elsewhere.
    Colour is weighed by alpha while it is resized: a transparent pixel has no colour of its own,
    and its black would darken the rim of the layer.
    """
    fitted, rows, columns = _fit(layer, at, box, side, flip)
    result = np.zeros((side, side, 4), np.uint8)
    result[rows, columns] = fitted
    return result


def fit_layer_planes(layer: np.ndarray, at: Box, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut a layer as `fit_layer`, into planes: (4, side, side) uint8 ARGB."""
    fitted, rows, columns = _fit(layer, at, box, side, flip)
    planes = np.zeros((4, side, side), np.uint8)
    if fitted.size:  # OpenCV takes no empty arrays
        argb_planes(fitted, planes[:, rows, columns])
    return planes


def fit_levels(levels: np.ndarray, at: Box, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut depth levels that lie at `at`, (h, w) uint8 or uint16, at a box of the page.

    Returns (side, side) of the same type, aligned with `fit_page` and `fit_layer` of the same box;
    0 elsewhere. Each pixel has the level at its centre: levels count, so between two of them lies
    none.
    """
    part, x, y = _cut(levels[..., None], at, box, flip)
    whole = _on_square(part, x, y, _square(box))[..., 0]
    return cv2.resize(whole, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)


def _fit(
    layer: np.ndarray, at: Box, box: Box, side: int, flip: bool
) -> tuple[np.ndarray, slice, slice]:
    """The part of a fitted layer that isn't empty, and its rows and columns."""
    part, x, y = _cut(layer, at, box, flip)
    if not part.size:
        return part[:0, :0], slice(0), slice(0)
    height, width = part.shape[:2]
    square = _square(box)
    if square == side:
        return part, slice(y, y + height), slice(x, x + width)
    weighted = resize(_on_square(premultiply(part), x, y, square), side)
    rows, columns = _reach(y, height, side / square), _reach(x, width, side / square)
    return unpremultiply(weighted[rows, columns]), rows, columns


def _cut(image: np.ndarray, at: Box, box: Box, flip: bool) -> tuple[np.ndarray, int, int]:
    """What of an image lies in a box, and its left and top on the square around the box.

    The box is in the middle of the square, half a pixel left or up.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    x1, y1, x2, y2 = max(at[0], box[0]), max(at[1], box[1]), min(at[2], box[2]), min(at[3], box[3])
    # An image beside the box has no part in it.
    part = image[y1 - at[1] : max(y1, y2) - at[1], x1 - at[0] : max(x1, x2) - at[0]]
    left = x1 - box[0]
    if flip and part.size:
        part, left = cv2.flip(part, 1).reshape(part.shape), box[2] - x2
    square = _square(box)
    return part, (square - width) // 2 + left, (square - height) // 2 + y1 - box[1]


def _square(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _on_square(part: np.ndarray, x: int, y: int, side: int) -> np.ndarray:
    """Show a part of an image at its place on zeros."""
    canvas = np.zeros((side, side, part.shape[2]), part.dtype)
    if part.size:
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def _reach(first: int, length: int, scale: float) -> slice:
    """Where `length` pixels from `first` on show after `resize`, a pixel more on either side."""
    return slice(max(int((first - 1) * scale), 0), math.ceil((first + length + 1) * scale))
