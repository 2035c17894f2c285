"""The order of parts that the page shows: where two overlap, it has the colour of the one in front.

    parts = follow_page(order_parts(cut_parts(...)), page)

A network tells the depth of each layer as a whole and may miss by a step; pixels of two layers
whose colours differ tell which is in front. Where they don't say, depth does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.inference.composite import Image8
from seethrough.inference.parts import (
    BEFORE_FACE,
    EYE_STACK,
    PAGE_COLORED,
    STEP,
    Part,
    at_depth,
)

SOLID = 200
"""A part hides what is behind it where its alpha is above this."""

MATCH = 16
"""A pixel shows a part if no channel of the page is farther than this from the part's colour,"""

MARGIN = 60
"""and some channel at least this much farther from every other part's that covers the pixel: what
two parts may be seen by tells nothing of a third."""

LEAST_SHARE = 1 / 4
"""Share of two parts' overlap that has to show the one in front: the rest may be hidden by others,
or of the same colour."""

MAJORITY = 0.9
"""Share of the pixels that show either part which have to show the one in front."""

LOOKED_AT = 512
"""The page is looked at in as many rows and columns at most."""


Order = tuple[int, int]
"""Places of two parts: of the one in front, and of the other."""


def follow_page(parts: Sequence[Part], page: Image8) -> list[Part]:
    """Bring parts into an order that agrees with the page, surest pairs first.

    Args:
        parts: back to front. Their depth decides where the page doesn't.
        page: (H, W, 3 or 4), what they were made of.

    Returns:
        The same parts, back to front. A part that has to come forward lies just before what it
        covers: its median depth says so.
    """
    behind: dict[int, set[int]] = {place: set() for place in range(len(parts))}
    for front, back in [*_by_anatomy(parts), *shown_orders(parts, page)]:
        # A pair that contradicts surer ones is left out.
        if not _reaches(behind, back, front):
            behind[front].add(back)
    moved: dict[int, Part] = {}
    for place in _backs_first(behind):
        part = parts[place]
        nearest = min((moved[back].depth_median for back in behind[place]), default=np.inf)
        moved[place] = part if part.depth_median < nearest else at_depth(part, nearest - STEP)
    return sorted(moved.values(), key=lambda part: -part.depth_median)


def _by_anatomy(parts: Sequence[Part]) -> list[Order]:
    """What lies on a face stays there, however vague the networks painted it."""
    fronts = {*((tag, "face") for tag in BEFORE_FACE), *EYE_STACK}
    return [
        (front, back)
        for front, back in permutations(range(len(parts)), 2)
        if (parts[front].tag, parts[back].tag) in fronts
    ]


def shown_orders(parts: Sequence[Part], page: Image8) -> list[Order]:
    """The pairs of parts whose order the page shows, those that most pixels show first.

    Parts that have the page's own colour tell nothing.
    """
    step = -(-max(page.shape[:2]) // LOOKED_AT)
    places = [place for place, part in enumerate(parts) if part.tag not in PAGE_COLORED]
    if len(places) < 2:
        return []
    looks = [_look(parts[place], page, step) for place in places]
    distances = np.stack([look.distance for look in looks])
    nearest, next_nearest = np.partition(distances, 1, axis=0)[:2]
    clear = (nearest <= MATCH) & (next_nearest >= nearest + MARGIN)
    shown = np.where(clear, distances.argmin(axis=0), -1)
    found: dict[Order, int] = {}
    for one, other in combinations(range(len(places)), 2):
        both = looks[one].solid & looks[other].solid
        overlap = int(np.count_nonzero(both))
        if not overlap:
            continue
        first, second = (int((shown[both] == place).sum()) for place in (one, other))
        lead = max(first, second)
        if lead >= LEAST_SHARE * overlap and lead >= MAJORITY * (first + second):
            front, back = (one, other) if first > second else (other, one)
            found[places[front], places[back]] = lead - min(first, second)
    return sorted(found, key=lambda order: -found[order])


@attrs.frozen(eq=False)
class _Look:
    """A part on the page, at every few pixels."""

    solid: npt.NDArray[np.bool_]
    """Where it hides what is behind it."""
    distance: npt.NDArray[np.int16]
    """Of its colour from the page's, the largest of the channels; far where it is not solid."""


def _look(part: Part, page: Image8, step: int) -> _Look:
    canvas = np.zeros((*page.shape[:2], 4), np.uint8)
    canvas[part.window] = part.rgba
    seen = canvas[::step, ::step].astype(np.int16)
    distance = np.abs(seen[..., :3] - page[::step, ::step, :3]).max(axis=-1)
    solid = seen[..., 3] > SOLID
    return _Look(solid, np.where(solid, distance, np.int16(1000)))


def _backs_first(behind: Mapping[int, set[int]]) -> list[int]:
    """The parts in their order, but each after all that is behind it."""
    done: dict[int, None] = {}

    def visit(place: int) -> None:
        for back in sorted(behind[place] - done.keys()):
            visit(back)
        done[place] = None

    for place in behind:
        if place not in done:
            visit(place)
    return list(done)


def _reaches(behind: Mapping[int, set[int]], start: int, goal: int) -> bool:
    """Whether the goal is already known to be behind the start."""
    waiting, met = [start], {start}
    while waiting:
        place = waiting.pop()
        if place == goal:
            return True
        waiting += behind[place] - met
        met |= behind[place]
    return False
