"""Boxes on the page, and pictures cut out of it and brought to the training size.

The geometry of a page and of its layers is the same by construction: both are cut at one box,
mirrored, centred on a transparent square and resized.
"""

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
    alpha = np.ascontiguousarray(rgba[..., 3])
    weights = cv2.merge((alpha, alpha, alpha, np.full_like(alpha, 255)))
    return cv2.multiply(rgba, weights, dtype=cv2.CV_16U)


def unpremultiply(weighted: np.ndarray) -> np.ndarray:
    """Undo `premultiply`, rounding; colour is 0 where the rounded alpha is 0."""
    result = np.zeros(weighted.shape, np.uint8)
    x1, y1, x2, y2 = alpha_box(weighted[..., 3])
    part = weighted[y1:y2, x1:x2].astype(np.float32)
    alpha = part[..., 3:]
    part[..., :3] *= 255 / np.maximum(alpha, 1)
    alpha /= 255
    # An interpolated product may end up above its interpolated weight by its rounding.
    np.minimum(part, 255, out=part)
    np.rint(part, out=part)
    part *= alpha > 0
    result[y1:y2, x1:x2] = part
    return result


def fit_page(page: np.ndarray, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut a page, (H, W, C) uint8, at a box: (side, side, C), black around the box.

    Channels are resized on their own: the page's colour holds its background.
    """
    at = (0, 0, page.shape[1], page.shape[0])
    return resize(_centred(page, at, box, flip), side)


def fit_layer(layer: np.ndarray, at: Box, box: Box, side: int, flip: bool) -> np.ndarray:
    """Cut a layer that lies at `at`, uint8 RGBA with straight alpha, at a box of the page.

    Returns (side, side, 4), aligned with `fit_page` of the same box; transparent elsewhere.
    Colour is weighed by alpha while it is resized: a transparent pixel has no colour of its own,
    and its black would darken the rim of the layer.
    """
    if max(box[2] - box[0], box[3] - box[1]) == side:
        return _centred(layer, at, box, flip)
    return unpremultiply(resize(_centred(premultiply(layer), at, box, flip), side))


def _centred(image: np.ndarray, at: Box, box: Box, flip: bool) -> np.ndarray:
    """Show what of an image lies in a box on a square of zeros, half a pixel left or up."""
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    canvas = np.zeros((side, side, image.shape[2]), image.dtype)
    x1, y1, x2, y2 = max(at[0], box[0]), max(at[1], box[1]), min(at[2], box[2]), min(at[3], box[3])
    if x1 < x2 and y1 < y2:
        part = image[y1 - at[1] : y2 - at[1], x1 - at[0] : x2 - at[0]]
        left = x1 - box[0]
        if flip:
            part, left = part[:, ::-1], box[2] - x2
        x, y = (side - width) // 2 + left, (side - height) // 2 + y1 - box[1]
        canvas[y : y + y2 - y1, x : x + x2 - x1] = part
    return canvas
