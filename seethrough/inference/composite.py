"""Layers over each other, and the order they are drawn in.

Images are straight-alpha RGBA, (H, W, 4) uint8. Sums run in premultiplied float32 and are
rounded to the nearest level once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.data.layout import Box
from seethrough.data.tags import HEAD

Image8 = npt.NDArray[np.uint8]
"""(H, W, 4) straight RGBA, or (H, W, 3) RGB."""
Plane = npt.NDArray[np.float32]

DRAWING_ORDER = (
    "wings",
    "tail",
    "back hair",
    "neck",
    "legwear",
    "footwear",
    "bottomwear",
    "topwear",
    "neckwear",
    "handwear",
    "ears",
    "face",
    "nose",
    "mouth",
    "eyewhite",
    "irides",
    "eyelash",
    "eyebrow",
    "eyes",
    "eyewear",
    "earwear",
    "front hair",
    "hair",
    "headwear",
    "objects",
)
"""The tags of both versions from back to front, as most characters are drawn.

Ears lie behind the face and the parts of the eye are stacked as the published depth stage stacks
them; the rest follows anatomy and dress. V2's `hair` is one layer: it lies in front, where most of
what is seen of it belongs. `head` is missing on purpose: it repeats its parts.
"""


@attrs.frozen
class Flat:
    """Layers drawn over each other: premultiplied colour (H, W, 3) and alpha (H, W), in [0, 1]."""

    color: Plane
    alpha: Plane

    def straight(self) -> Image8:
        """The picture as straight RGBA; fully transparent pixels are black."""
        alpha = self.alpha[..., None]
        color = np.divide(self.color, alpha, out=np.zeros_like(self.color), where=alpha > 0)
        return quantize(np.concatenate([color, alpha], axis=-1))


def quantize(values: npt.NDArray[np.floating]) -> Image8:
    """Round [0, 1] to the nearest of 256 levels; values outside are clipped."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def drawing_order(tags: Iterable[str], order: Sequence[str] = DRAWING_ORDER) -> list[str]:
    """Sort tags from back to front by `order`; `head` is left out, since it repeats its parts.

    Raises ValueError for a tag that `order` doesn't place.
    """
    place = {tag: index for index, tag in enumerate(order)}
    drawn = [tag for tag in tags if tag != HEAD]
    if unplaced := sorted(set(drawn) - set(place)):
        raise ValueError(f"the drawing order has no place for {', '.join(unplaced)}")
    return sorted(drawn, key=place.__getitem__)


@attrs.frozen(eq=False, kw_only=True)
class Placed:
    """A picture cut to its box on a canvas."""

    name: str
    """Name of its layer in a PSD, unique there."""
    box: Box
    """Where it lies, in pixels: (left, top, right, bottom), end-exclusive, within the canvas."""
    rgba: Image8
    """(h, w, 4), straight alpha; h and w are the box's."""

    @property
    def window(self) -> tuple[slice, slice]:
        """The canvas' rows and columns that it covers."""
        left, top, right, bottom = self.box
        return slice(top, bottom), slice(left, right)


def place(layers: Mapping[str, Image8]) -> list[Placed]:
    """Cut layers as large as the canvas to where their alpha is above 0; drop the empty ones."""
    placed: list[Placed] = []
    for name, layer in layers.items():
        if (box := content_box(layer)) is not None:
            left, top, right, bottom = box
            placed.append(Placed(name=name, box=box, rgba=layer[top:bottom, left:right]))
    return placed


def flatten(layers: Iterable[Image8], size: tuple[int, int]) -> Flat:
    """Draw layers from back to front on a transparent canvas of `size` (height, width)."""
    layers = list(layers)
    for layer in layers:
        if layer.shape != (*size, 4):
            raise ValueError(f"a layer has shape {layer.shape}, the canvas {(*size, 4)}")
    return flatten_placed(place({str(index): layer for index, layer in enumerate(layers)}), size)


def flatten_placed(pictures: Iterable[Placed], size: tuple[int, int]) -> Flat:
    """Draw placed pictures likewise."""
    color = np.zeros((*size, 3), np.float32)
    alpha = np.zeros(size, np.float32)
    for picture in pictures:
        part = picture.rgba.astype(np.float32) / 255
        part_alpha = part[..., 3]
        behind = 1 - part_alpha
        part_color = part[..., :3] * part_alpha[..., None]
        window = picture.window
        color[window] = part_color + color[window] * behind[..., None]
        alpha[window] = part_alpha + alpha[window] * behind
    return Flat(color, alpha)


def content_box(layer: Image8, threshold: int = 0) -> Box | None:
    """Find the box (left, top, right, bottom; end-exclusive) of alpha above a threshold.

    Returns None where there is no such pixel.
    """
    solid = layer[..., 3] > threshold
    rows = np.flatnonzero(solid.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(solid.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
