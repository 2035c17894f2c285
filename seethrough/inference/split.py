"""Splitting parts: into left and right by where they lie, into near and far by depth.

Every pixel of a part is in one of its halves, or in both; none is lost. What a split makes has the
part's tag, and its name with a suffix. Names say the character's side, as published: `-r` is on
the left of the picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import cv2
import numpy as np
import numpy.typing as npt

from seethrough.data.padding import bleed
from seethrough.inference.composite import Image8, Placed, Plane
from seethrough.inference.parts import ALPHA_THRESHOLD, LEAST_PIXELS, Part, cut_part

SIDED = ("handwear", "eyewhite", "irides", "eyelash", "eyebrow", "ears")
"""Tags that hold a left and a right one."""

LAYERED = ("hair",)
"""Tags whose near and far half are drawn apart: V2's hair, before and behind the face."""

LEAST_SHARE = 0.01
"""A side with less of a part's pixels is specks: such a part has one side, and stays whole."""

FEATHER = 0.7
"""Standard deviation, in pixels, of the blur of a near half's edge, as published."""

OPAQUE = 0.9
"""Where a part's alpha is at least this, what is behind its near half is as opaque as the part.

Elsewhere, at its outline and where it is translucent, it is what the two need to have the part's
alpha over each other. Networks seldom predict an alpha of quite 1.
"""

EDGE = 3
"""Width in pixels of an edge, where colours and depths of both sides mix, as published.

Around a near half it is not continued into the hole; at a part's outline it has no level of depth.
"""

_DISK = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))

Mask = npt.NDArray[np.bool_]


def split_sides(parts: Iterable[Part], tags: Collection[str] = SIDED) -> list[Part]:
    """Split parts into the blobs on the left and on the right of the picture, where both are.

    Blobs are 8-connected. The cut between the sides is where it leaves the least variance of the
    pixels' blob centres, so that every blob, however small, is on the side that it lies nearer to.
    A pixel too transparent for a blob goes with the nearest.
    """
    result: list[Part] = []
    for part in parts:
        left = _left_blobs(_solid(part)) if part.tag in tags else None
        if left is None:
            result.append(part)
            continue
        right = _solid(part) & ~left
        nearer = _distance(left) <= _distance(right)
        for suffix, side in (("-r", nearer), ("-l", ~nearer)):
            alpha = np.where(side, part.rgba[..., 3], 0).astype(np.uint8)
            result.append(_part(part, suffix, part.rgba, alpha, part.depth))
    return result


def split_depth(parts: Iterable[Part], tags: Collection[str] = LAYERED) -> list[Part]:
    """Split parts into a near half, `-0`, and a far one, `-1`, where their depth has two levels.

    The levels are the two means that leave the least variance of the depth. The near half's edge
    is feathered outwards. The far one goes on behind it; its colour there is bled in from its own
    pixels, which is smooth and draws nothing (the published pipeline has LaMa paint it). Over each
    other they look like the part. Where a half is without pixels of its own, in the hole and on the
    feathered edge, its depth is the median of those.
    """
    result: list[Part] = []
    for part in parts:
        near = _near_pixels(part) if part.tag in tags else None
        result += [part] if near is None else _halves(part, near)
    return result


def _solid(part: Part) -> Mask:
    return part.rgba[..., 3] > ALPHA_THRESHOLD


def _distance(mask: Mask) -> Plane:
    """Distance in pixels of each pixel to the mask."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32)


def _left_blobs(solid: Mask) -> Mask | None:
    """The blobs on the left; None where there is but one side."""
    count, labels, stats, centers = cv2.connectedComponentsWithStats(
        solid.astype(np.uint8), connectivity=8
    )
    if count < 3:  # the background is one
        return None
    areas, xs = stats[1:, cv2.CC_STAT_AREA], centers[1:, 0].astype(np.float64)
    order = np.argsort(xs, kind="stable")
    cut = two_means(xs[order], areas[order].astype(np.float64))
    left = order[:cut]
    share = areas[left].sum() / areas.sum()
    if cut == 0 or not LEAST_SHARE <= share <= 1 - LEAST_SHARE:
        return None
    return np.isin(labels, left + 1)


def two_means(values: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> int:
    """Cut ascending values in two with the least weighted variance within: the first's length.

    0 where all values are the same. Exact, as one dimension allows: each cut is tried.
    """
    values = values.astype(np.float64) - values[0]
    weight, total = np.cumsum(weights), np.cumsum(weights * values)
    # Least variance within is most between: w1 w2 (m1 - m2)^2.
    first, second = weight[:-1], weight[-1] - weight[:-1]
    gap = (total[-1] - total[:-1]) / second - total[:-1] / first
    between = first * second * gap**2
    if not between.any():
        return 0
    return int(between.argmax()) + 1


def _near_pixels(part: Part) -> Mask | None:
    """The nearer of a part's two levels of depth; None where there is but one."""
    solid = _solid(part)
    depth = _depth_without_outline(part.depth, solid)
    depths, counts = np.unique(depth[solid], return_counts=True)
    cut = two_means(depths, counts.astype(np.float64))
    if cut == 0 or min(counts[:cut].sum(), counts[cut:].sum()) < LEAST_PIXELS:
        return None
    return solid & (depth < depths[cut])


def _depth_without_outline(depth: Plane, solid: Mask) -> Plane:
    """Depth that goes on from inside over a part's outline.

    There the network's depth fades into the far; two means would split it off.
    """
    eroded = cv2.erode(solid.astype(np.uint8), _DISK, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    inner = eroded > 0
    if not inner.any():
        return depth
    _, labels = cv2.distanceTransformWithLabels(
        1 - eroded, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(labels, np.int64)
    known = np.zeros(nearest.max() + 1, np.float32)
    known[nearest[inner]] = depth[inner]
    return known[nearest]


def _halves(part: Part, near: Mask) -> list[Part]:
    """The far half and the near one; the part itself where so little is far that nothing shows."""
    far = _solid(part) & ~near
    mask = near.astype(np.float32)
    # Outwards alone: there both halves have the picture's colour, inwards only the near one has.
    feather = np.maximum(mask, cv2.GaussianBlur(mask, (3, 3), FEATHER))
    alpha = part.rgba[..., 3].astype(np.float32) / 255
    near_alpha = alpha * feather
    behind = np.divide(
        alpha - near_alpha, 1 - near_alpha, out=np.ones_like(alpha), where=near_alpha < 1
    )
    near_alpha, far_alpha = (
        np.rint(values * 255).astype(np.uint8)
        for values in (near_alpha, np.where(alpha >= OPAQUE, alpha, behind))
    )
    if not (far_alpha[far] > ALPHA_THRESHOLD).any():
        return [part]
    colors = _continued(part.rgba, near)
    far_depth = np.where(near, np.median(part.depth[far]), part.depth)
    near_depth = np.where(near, part.depth, np.median(part.depth[near]))
    return [
        _part(part, "-1", colors, far_alpha, far_depth),
        _part(part, "-0", part.rgba, near_alpha, near_depth),
    ]


def _continued(rgba: Image8, hole: Mask) -> Image8:
    """Colours with those around a hole, its edge left out, bled into it."""
    edge = cv2.dilate(hole.astype(np.uint8), _DISK) > 0
    known = rgba[..., 3] > ALPHA_THRESHOLD
    source = known & ~edge if (known & ~edge).any() else known & ~hole
    bled = bleed(np.dstack([rgba[..., :3], np.where(source, rgba[..., 3], 0).astype(np.uint8)]))
    return np.where(hole[..., None], bled, rgba)


def _part(part: Part, suffix: str, rgba: Image8, alpha: Image8, depth: Plane) -> Part:
    """What a split makes of a part, cut to its own box."""
    picture = Placed(name=part.name + suffix, box=part.box, rgba=np.dstack([rgba[..., :3], alpha]))
    return cut_part(picture, part.tag, depth)
