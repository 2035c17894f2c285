"""Masks of body parts on the picture vote for what each layer is."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.characters.form import Box, Character, CharacterLayer, clip_alpha
from seethrough.data.tags import TAGS_V2, TAGS_V3
from seethrough.label.guess import Guess

SOLID = 25
"""Alpha above which a pixel counts, as in the published pipeline."""

HIDDEN = 0.1
"""Share of the light below which what lies under other layers is hidden."""

RELIABLE = 0.9
"""How sure a vote of every visible pixel makes a tag: masks are a model's."""

SHOES = 0.5
"""Share of a `legwear` layer from which a mask of `footwear` makes it that."""


@attrs.frozen(eq=False)
class PartMap:
    """Masks of parts over a character's canvas."""

    bits: npt.NDArray[np.uint32]
    """(H, W): bit c is set where the part c is."""
    tags: Sequence[str]
    """Names of at most 32 parts; those that are no tag of V2 or V3, such as `foreground`, have no
    vote."""


@attrs.frozen(eq=False)
class Visible:
    """What of a layer is seen."""

    window: tuple[slice, slice]
    """Rows and columns of the canvas."""
    mask: npt.NDArray[np.bool_]
    """Of the window."""


def visible_pixels(character: Character) -> list[Visible]:
    """What is seen of each layer, in their order: solid, and not hidden by what lies over it.

    What covers is the alpha of all layers above together, "over" each other; only layers that are
    blended normally cover. A layer that is not shown is not seen.
    """
    width, height = character.canvas
    light = np.ones((height, width), np.float32)
    seen: list[Visible] = []
    for layer in reversed(character.layers):
        window, inner = on_canvas(layer.box, character.canvas)
        if not layer.visible or layer.opacity == 0:
            seen.append(Visible(window, np.zeros(light[window].shape, bool)))
            continue
        alpha = _alpha(character, layer)[inner]
        seen.append(Visible(window, (alpha > (SOLID + 0.5) / 255) & (light[window] > HIDDEN)))
        if layer.blend == "normal":
            light[window] *= 1 - alpha
    return seen[::-1]


def vote(seen: Visible, parts: PartMap) -> Guess | None:
    """The part that most of a layer's visible pixels are in; None if they are in none.

    Of equal ones the first is taken. The confidence falls as another part comes near.
    """
    known = {*TAGS_V2, *TAGS_V3}
    total = int(seen.mask.sum())
    if not total:
        return None
    bits = parts.bits[seen.window][seen.mask]
    shares = {
        tag: np.count_nonzero(bits & np.uint32(1 << bit)) / total
        for bit, tag in enumerate(parts.tags)
        if tag in known
    }
    tag = max(shares, key=lambda name: shares[name], default=None)
    if tag is None or not shares[tag]:
        return None
    if tag == "legwear" and shares.get("footwear", 0) > SHOES:
        tag = "footwear"
    best = shares.pop(tag)
    second = max(shares.values(), default=0.0)
    return Guess(tag, RELIABLE * best * best / (best + second), "votes")


def on_canvas(box: Box, canvas: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of a box that lie on the canvas, as the canvas and as the box count them."""
    (x1, y1, x2, y2), (width, height) = box, canvas
    left, right = min(max(x1, 0), width), min(max(x2, 0), width)
    top, bottom = min(max(y1, 0), height), min(max(y2, 0), height)
    inner = slice(top - y1, bottom - y1), slice(left - x1, right - x1)
    return (slice(top, bottom), slice(left, right)), inner


def _alpha(character: Character, layer: CharacterLayer) -> npt.NDArray[np.float32]:
    alpha = layer.rgba()[..., 3] * np.float32(layer.opacity / 255)
    return alpha * clip_alpha(character, layer) if layer.clip else alpha
