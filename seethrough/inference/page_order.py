"""The order of parts that the page shows: where two overlap, it has the colour of the one in front.

    parts = follow_page(order_parts(cut_parts(...)), page)

A network tells the depth of each layer as a whole and may miss by a step; pixels of two layers
whose colours differ tell which is in front. Where they don't say, depth does.
"""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from itertools import combinations

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.inference.composite import Image8
from seethrough.inference.parts import PAGE_COLORED, STEP, Part, at_depth

SOLID = 200
"""A part hides what is behind it where its alpha is above this."""

MATCH = 48
"""A pixel shows a part if no channel of the page is farther than this from the part's colour,"""

MARGIN = 20
"""and some channel is at least this much farther from the other part's."""

LEAST_SHARE = 1 / 16
"""Share of two parts' overlap that has to show the one in front: the rest may be hidden by others,
or of the same colour."""

MAJORITY = 0.9
"""Share of the pixels that show either part which have to show the one in front."""

LOOKED_AT = 512
"""The page is looked at in as many rows and columns at most."""


@attrs.frozen
class Shown:
    """An order that the page shows."""

    front: int
    """Place of the part in front among the parts."""
    back: int
    pixels: int
    """How many pixels show it, less those that show the other."""


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
    for shown in shown_orders(parts, page):
        # A pair that contradicts surer ones is left out.
        if not _reaches(behind, shown.back, shown.front):
            behind[shown.front].add(shown.back)
    moved = list(parts)
    for place in graphlib.TopologicalSorter(behind).static_order():
        nearest = min((moved[back].depth_median for back in behind[place]), default=np.inf)
        if moved[place].depth_median >= nearest:
            moved[place] = at_depth(moved[place], nearest - STEP)
    return sorted(moved, key=lambda part: -part.depth_median)


def shown_orders(parts: Sequence[Part], page: Image8) -> list[Shown]:
    """The pairs of parts whose order the page shows, those that most pixels show first.

    Parts that have the page's own colour tell nothing.
    """
    step = -(-max(page.shape[:2]) // LOOKED_AT)
    looks = {
        place: _look(part, page, step)
        for place, part in enumerate(parts)
        if part.tag not in PAGE_COLORED
    }
    found: list[Shown] = []
    for one, other in combinations(looks, 2):
        both = looks[one].solid & looks[other].solid
        if not both.any():
            continue
        first, second = looks[one].distance[both], looks[other].distance[both]
        shows = int(np.count_nonzero((first <= MATCH) & (second >= first + MARGIN)))
        against = int(np.count_nonzero((second <= MATCH) & (first >= second + MARGIN)))
        lead = max(shows, against)
        if lead >= LEAST_SHARE * np.count_nonzero(both) and lead >= MAJORITY * (shows + against):
            front, back = (one, other) if shows > against else (other, one)
            found.append(Shown(front, back, abs(shows - against)))
    return sorted(found, key=lambda shown: -shown.pixels)


@attrs.frozen(eq=False)
class _Look:
    """A part on the page, at every few pixels."""

    solid: npt.NDArray[np.bool_]
    """Where it hides what is behind it."""
    distance: npt.NDArray[np.int16]
    """Of its colour from the page's, the largest of the channels."""


def _look(part: Part, page: Image8, step: int) -> _Look:
    canvas = np.zeros((*page.shape[:2], 4), np.uint8)
    canvas[part.window] = part.rgba
    seen = canvas[::step, ::step].astype(np.int16)
    distance = np.abs(seen[..., :3] - page[::step, ::step, :3]).max(axis=-1)
    return _Look(seen[..., 3] > SOLID, distance)


def _reaches(behind: dict[int, set[int]], start: int, goal: int) -> bool:
    """Whether the goal is already known to be behind the start."""
    waiting, met = [start], {start}
    while waiting:
        place = waiting.pop()
        if place == goal:
            return True
        waiting += behind[place] - met
        met |= behind[place]
    return False
