"""Draws straight pictures over each other: the "over" of Porter and Duff, in float32.

Most pixels of drawn art are opaque or empty: opaque ones are copied, and only the others computed.
"""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seethrough.characters.blend import draw
from seethrough.data.layout import Box
from seethrough.render.geometry import Image8, window
from seethrough.render.pieces import Piece

Pixels = npt.NDArray[np.float32]
"""(h, w, 4): premultiplied colour and alpha, both from 0 to 255."""
Places = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Rows and columns of pixels."""


def composite(pieces: Iterable[Piece], box: Box, compat: bool = False) -> Pixels:
    """Draw pieces over each other, back to front, on a box of their frame; they lie inside it.

    With `compat` alphas add up to at most 255 and blend modes count as normal, as in the published
    renderer; colours are the same.
    """
    x, y, right, bottom = box
    pixels = np.zeros((bottom - y, right - x, 4), np.float32)
    for piece in pieces:
        x1, y1, x2, y2 = piece.box
        view = pixels[window((x1 - x, y1 - y, x2 - x, y2 - y))]
        if piece.blend != "normal" and not compat:
            _draw_blended(view, piece)
        else:
            _draw_over(view, piece.rgba, compat)
    return pixels


def straight(pixels: Pixels) -> Image8:
    """Bring what was drawn to straight RGBA of 8 bit, rounded; colour 0 where alpha is 0."""
    rgba = cv2.convertScaleAbs(pixels)
    rows, columns = _partial(pixels)
    partial = pixels[rows, columns]
    partial[:, :3] *= 255 / partial[:, 3:]
    partial[np.rint(partial[:, 3]) == 0] = 0
    rgba[rows, columns] = np.rint(partial).clip(0, 255)
    return rgba


def premultiplied(pixels: Pixels) -> Image8:
    """Bring what was drawn to premultiplied RGBA of 8 bit, cut off as in the published renderer."""
    return np.clip(pixels, 0, 255).astype(np.uint8)


def page_of(pixels: Pixels, background: Image8, compat: bool = False) -> Image8:
    """What was drawn, over an opaque background: (h, w, 4).

    RGB is the picture with its background, A the alpha of what was drawn. `background` is
    (h, w, 3). Values are rounded; with `compat` cut off.
    """
    alpha = cv2.extractChannel(pixels, 3)
    drawn = premultiplied(pixels) if compat else cv2.convertScaleAbs(pixels)
    page = cv2.cvtColor(background, cv2.COLOR_RGB2RGBA)
    page[..., 3] = 0
    cv2.copyTo(drawn, cv2.inRange(alpha, 255, 1e9), page)
    rows, columns = _partial(pixels)
    partial = pixels[rows, columns]
    behind = background[rows, columns].astype(np.float32)
    partial[:, :3] += behind * (1 - partial[:, 3:] / 255)
    page[rows, columns] = (partial if compat else np.rint(partial)).clip(0, 255)
    return page


def _draw_over(view: Pixels, rgba: Image8, compat: bool) -> None:
    alpha = cv2.extractChannel(rgba, 3)
    cv2.copyTo(rgba.astype(np.float32), cv2.inRange(alpha, 255, 255), view)
    rows, columns = _places(cv2.inRange(alpha, 1, 254))
    below, above = view[rows, columns], rgba[rows, columns].astype(np.float32)
    share = above[:, 3:] / 255
    above[:, :3] *= share
    if compat:
        # It reads layers that are stored premultiplied.
        above[:, :3] = np.rint(above[:, :3])
    result = below * (1 - share) + above
    if compat:
        result[:, 3] = np.minimum(below[:, 3] + above[:, 3], 255)
    view[rows, columns] = result


def _draw_blended(view: Pixels, piece: Piece) -> None:
    color, alpha = view[..., :3] / 255, view[..., 3] / 255
    source = piece.rgba.astype(np.float32) / 255
    draw(color, alpha, source[..., :3], source[..., 3], piece.blend)
    view[..., :3], view[..., 3] = color * 255, alpha * 255


def _partial(pixels: Pixels) -> Places:
    """Rows and columns of what is neither opaque nor empty."""
    alpha = cv2.extractChannel(pixels, 3)
    return _places(((alpha > 0) & (alpha < 255)).view(np.uint8))


def _places(mask: Image8) -> Places:
    found = cv2.findNonZero(mask)
    # OpenCV gives None where nothing is found, and another shape from version to version.
    points = np.empty((0, 2), np.int32) if found is None else np.asarray(found).reshape(-1, 2)
    return points[:, 1], points[:, 0]
