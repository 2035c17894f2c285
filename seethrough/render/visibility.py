"""What of a character is seen, and which piece lies before which."""

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.data.layout import Box
from seethrough.data.tags import HEAD, HEAD_PARTS
from seethrough.errors import InputError
from seethrough.render.geometry import union, window
from seethrough.render.pieces import Piece

Levels = np.ndarray
"""(h, w) uint8 or uint16: larger is nearer, 0 where nothing is."""


@attrs.frozen(eq=False)
class Mask:
    """A mask that is empty outside of its box."""

    box: Box
    inside: npt.NDArray[np.bool_]
    """(h, w), as large as the box."""


def visible_masks(
    pieces: Sequence[Piece],
    size: tuple[int, int],
    *,
    seen_above: int,
    hidden_above: float,
    compat: bool = False,
) -> dict[str, Mask]:
    """Where each tag is seen, in a frame of (height, width); tags without a piece are left out.

    A pixel of a piece is seen where its alpha, of 255, is above `seen_above` and the pieces before
    it cover at most `hidden_above`: one minus the product of what they let through. Those of
    another blend mode than normal tint what lies behind and cover nothing. The mask of `legwear`
    holds the footwear too, as the published one; that of `head` all of its parts.

    With `compat` cover is the sum of alphas, blend modes count as normal, and `head` is left out.
    """
    masks = {
        tag: Mask(box, np.zeros((box[3] - box[1], box[2] - box[0]), bool))
        for tag, box in tag_boxes(pieces).items()
    }
    cover = np.zeros(size, np.float32)
    for piece in reversed(pieces):
        alpha, before = piece.alpha, cover[window(piece.box)]
        mask = masks[piece.tag]
        x, y = mask.box[:2]
        x1, y1, x2, y2 = piece.box
        shown = mask.inside[window((x1 - x, y1 - y, x2 - x, y2 - y))]
        shown |= (alpha > seen_above) & (before <= np.float32(hidden_above))
        if compat:
            before += alpha / np.float32(255)
        elif piece.blend == "normal":
            before += (1 - before) * (alpha / np.float32(255))
    if "legwear" in masks or "footwear" in masks:
        masks["legwear"] = _joined(masks[tag] for tag in ("legwear", "footwear") if tag in masks)
    if not compat and any(tag in masks for tag in HEAD_PARTS):
        masks[HEAD] = _joined(masks[tag] for tag in HEAD_PARTS if tag in masks)
    return masks


def tag_boxes(pieces: Iterable[Piece]) -> dict[str, Box]:
    """The box around all pieces of each tag."""
    boxes: dict[str, list[Box]] = {}
    for piece in pieces:
        boxes.setdefault(piece.tag, []).append(piece.box)
    return {tag: union(found) for tag, found in boxes.items()}


def drawing_levels(
    pieces: Sequence[Piece], size: tuple[int, int], seen_above: int
) -> tuple[list[int], Levels]:
    """The level of each piece, and of each pixel of a frame of (height, width).

    As the published renderer counts: from 1, back to front; a piece that meets one of the current
    level, both with an alpha above `seen_above`, begins the next. A pixel has the level of the
    last piece on it, 0 where there is none. 8 bit, or 16 where levels exceed 255.
    """
    levels: list[int] = []
    page = np.zeros(size, np.uint16)
    level = 1
    for piece in pieces:
        seen, below = piece.alpha > seen_above, page[window(piece.box)]
        # What has the current level is just what this level's pieces cover.
        level += bool((below[seen] == level).any())
        if level > np.iinfo(np.uint16).max:
            raise InputError(f"more than {level - 1} levels of depth: 16 bits hold no more")
        below[seen] = level
        levels.append(level)
    return levels, _narrow(page)


def levels_of(
    pieces: Iterable[tuple[Piece, int]], box: Box, seen_above: int, dtype: npt.DTypeLike
) -> Levels:
    """The levels of some pieces, with theirs, on a box of the frame: as if they were alone."""
    x, y, right, bottom = box
    levels = np.zeros((bottom - y, right - x), dtype)
    for piece, level in pieces:
        x1, y1, x2, y2 = piece.box
        view = levels[window((x1 - x, y1 - y, x2 - x, y2 - y))]
        view[piece.alpha > seen_above] = level
    return levels


def _joined(masks: Iterable[Mask]) -> Mask:
    """Where any of some masks is."""
    masks = list(masks)
    x, y, right, bottom = box = union(mask.box for mask in masks)
    joined = np.zeros((bottom - y, right - x), bool)
    for mask in masks:
        x1, y1, x2, y2 = mask.box
        joined[window((x1 - x, y1 - y, x2 - x, y2 - y))] |= mask.inside
    return Mask(box, joined)


def _narrow(levels: npt.NDArray[np.uint16]) -> Levels:
    return levels.astype(np.uint8) if levels.max(initial=0) <= 255 else levels
