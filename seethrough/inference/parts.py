"""Parts: a character's layers as they go into the PSD, each cut to its box, in drawing order.

    parts = order_parts(cut_parts(layers, layer_depths(layers, depths), page))

One number places a part: the median of its depth. Where the published assembly goes wrong, this
one does not: a part may lie anywhere on the canvas, every pixel of it counts for the median, and
the rules that mend the order hold for split parts and for the parts of the eye too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import attrs
import numpy as np

from seethrough.data.tags import HEAD, V2_PARTS
from seethrough.inference.composite import DRAWING_ORDER, Image8, Placed, Plane, content_box

ALPHA_THRESHOLD = 10
"""A part is where its alpha is above this."""

LEAST_PIXELS = 5
"""A layer with fewer pixels is specks, and no part."""

PAGE_COLORED = ("nose", "mouth")
"""What takes its colour from the page, as published: a few pixels that the networks blur.

Where something covers a nose on the page, that colour is in the nose too.
"""

BEFORE_FACE = ("nose", "mouth", "eyes", *V2_PARTS["eyes"])
BEHIND_FACE = ("ears",)

EYE_STACK = (("irides", "eyewhite"), ("eyelash", "irides"))
"""Pairs (front, back) of tags that the depth network sees as one frame, drawn in this order."""

STEP = 1e-3
"""How far apart, in depth, the rules set two parts, as published."""


@attrs.frozen(eq=False, kw_only=True)
class Part(Placed):
    """A layer, or what a split made of one. Lists of parts run back to front.

    Its name is its tag, and after a split a suffix.
    """

    tag: str
    """The body-part tag that it belongs to."""
    depth: Plane
    """(h, w) float32 in [0, 1], 0 near; 1 where the part is not."""
    depth_median: float
    """Its place in the drawing order, in [0, 1]: the larger, the farther."""


def layer_depths(layers: Mapping[str, Image8], depths: Mapping[str, Plane]) -> dict[str, Plane]:
    """The depth of each layer: its own frame's, or that of the frame which hair or eyes share.

    `layers` are (H, W, 4) straight RGBA by tag, `depths` (H, W) in [0, 1] by the tag of the frame,
    `hair` and `eyes` for V3's layers of these. A layer of a shared frame has the frame's depth
    where it shows there, the median of that where layers in front cover it, and 1 elsewhere.
    """
    result = {tag: depths[tag] for tag in layers if tag in depths}
    for frame, tags in V2_PARTS.items():
        if frame not in depths:
            continue
        covered = np.zeros(depths[frame].shape, bool)
        for tag in reversed(tags):
            if tag not in layers or tag in depths:
                continue
            solid = layers[tag][..., 3] > ALPHA_THRESHOLD
            shown = solid & ~covered
            depth = np.where(solid, depths[frame], np.float32(1))
            if (solid & covered).any():
                # Of a layer without a visible pixel the frame tells only how near its cover is.
                known = shown if shown.any() else solid
                depth[solid & covered] = np.median(depths[frame][known])
            result[tag] = depth
            covered |= solid
    return result


def fixed_depths(layers: Mapping[str, Image8]) -> dict[str, Plane]:
    """A depth of each layer, (H, W) by tag, that puts them in `DRAWING_ORDER`."""
    far = {tag: 1 - place / len(DRAWING_ORDER) for place, tag in enumerate(DRAWING_ORDER)}
    return {
        tag: np.full(layer.shape[:2], far[tag], np.float32)
        for tag, layer in layers.items()
        if tag in far
    }


def cut_parts(
    layers: Mapping[str, Image8],
    depths: Mapping[str, Plane],
    page: Image8 | None = None,
    page_colored: Collection[str] = PAGE_COLORED,
) -> list[Part]:
    """Cut each layer to where its alpha is above `ALPHA_THRESHOLD`; leave out specks and `head`.

    Args:
        layers: (H, W, 4) straight RGBA by tag.
        depths: (H, W) in [0, 1] by tag, as `layer_depths` gives them.
        page: (H, W, 3 or 4), what the layers were made of; None to leave all colours alone.
        page_colored: tags that get the page's colour within their box.

    Raises:
        ValueError: when a layer with more than specks has no depth, or one of another size.
    """
    parts: list[Part] = []
    for tag, layer in layers.items():
        if tag == HEAD or np.count_nonzero(layer[..., 3] > ALPHA_THRESHOLD) < LEAST_PIXELS:
            continue
        depth = depths.get(tag)
        if depth is None or depth.shape != layer.shape[:2]:
            found = "none" if depth is None else f"{depth.shape}"
            raise ValueError(f"{tag}: depth of shape {layer.shape[:2]} expected, found {found}")
        whole = Placed(name=tag, box=(0, 0, layer.shape[1], layer.shape[0]), rgba=layer)
        part = cut_part(whole, tag, depth)
        if page is not None and tag in page_colored:
            rgba = np.dstack([page[part.window][..., :3], part.rgba[..., 3]])
            part = attrs.evolve(part, rgba=rgba)
        parts.append(part)
    return parts


def cut_part(picture: Placed, tag: str, depth: Plane) -> Part:
    """Cut a picture with its depth (h, w) to its solid pixels.

    Raises:
        ValueError: when there are none, or the depth is not a number on one.
    """
    box = content_box(picture.rgba, ALPHA_THRESHOLD)
    if box is None:
        raise ValueError(f"{picture.name}: no pixel's alpha is above {ALPHA_THRESHOLD}")
    left, top, right, bottom = box
    inner = np.s_[top:bottom, left:right]
    depth = np.clip(depth[inner], 0, 1).astype(np.float32)
    solid = picture.rgba[inner][..., 3] > ALPHA_THRESHOLD
    if np.isnan(depth[solid]).any():
        raise ValueError(f"{picture.name}: its depth is not a number everywhere")
    x, y = picture.box[:2]
    return Part(
        name=picture.name,
        tag=tag,
        box=(x + left, y + top, x + right, y + bottom),
        rgba=np.ascontiguousarray(picture.rgba[inner]),
        depth=np.where(solid, depth, np.float32(1)),
        depth_median=float(np.median(depth[solid])),
    )


def order_parts(parts: Iterable[Part]) -> list[Part]:
    """Sort parts from back to front by their median depth, mended where anatomy knows better.

    Nose, mouth and eyes that are not in front of the face come to lie just before it, ears always
    just behind it, as published; irides before the eyewhite that they overlap, lashes before the
    irides. Equal medians stand in the order of `DRAWING_ORDER`. The medians of moved parts say
    where they are now.
    """
    moved = list(parts)
    faces = [part.depth_median for part in moved if part.tag == "face"]
    if faces:
        before, behind = min(faces) - STEP, max(faces) + STEP
        for index, part in enumerate(moved):
            if part.tag in BEHIND_FACE:
                moved[index] = at_depth(part, behind)
            elif part.tag in BEFORE_FACE and part.depth_median >= min(faces):
                moved[index] = at_depth(part, before)
    for front, back in EYE_STACK:
        backs = [part for part in moved if part.tag == back]
        for index, part in enumerate(moved):
            overlapped = [other.depth_median for other in backs if _overlap(part, other)]
            if part.tag == front and overlapped and part.depth_median >= min(overlapped):
                moved[index] = at_depth(part, min(overlapped) - STEP)
    place = {tag: index for index, tag in enumerate(DRAWING_ORDER)}
    return sorted(moved, key=lambda part: (-part.depth_median, place[part.tag]))


def at_depth(part: Part, depth: float) -> Part:
    """The part at another place in the drawing order, in [0, 1]."""
    return attrs.evolve(part, depth_median=min(max(depth, 0.0), 1.0))


def _overlap(one: Part, other: Part) -> bool:
    """Whether two parts' boxes have a pixel in common."""
    left, top = (max(one.box[axis], other.box[axis]) for axis in (0, 1))
    right, bottom = (min(one.box[axis], other.box[axis]) for axis in (2, 3))
    return left < right and top < bottom
