"""Reads layered PSDs and PSBs, by psd-tools.

Groups become paths, clipping becomes clips, masks go into alpha, fill goes into opacity. What has
no pixels in the file (adjustments, gradients, patterns) and effects are told and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from psd_tools import PSDImage
from psd_tools.api.adjustments import SolidColorFill
from psd_tools.api.layers import AdjustmentLayer
from psd_tools.api.layers import Group as PsdGroup
from psd_tools.constants import BlendMode, ChannelID, ColorMode, Resource

from seethrough.characters.form import Image8
from seethrough.data.pictures import as_rgba
from seethrough.errors import InputError
from seethrough.ingest.drawing import Budget, Drawing
from seethrough.ingest.settings import IngestSettings
from seethrough.ingest.tree import Group, Leaf, Mask, flat_layers, paste

BLENDS = {
    BlendMode.NORMAL: "normal",
    BlendMode.DARKEN: "darken",
    BlendMode.MULTIPLY: "multiply",
    BlendMode.COLOR_BURN: "color-burn",
    BlendMode.LINEAR_BURN: "linear-burn",
    BlendMode.DARKER_COLOR: "darker-color",
    BlendMode.LIGHTEN: "lighten",
    BlendMode.SCREEN: "screen",
    BlendMode.COLOR_DODGE: "color-dodge",
    BlendMode.LINEAR_DODGE: "add",
    BlendMode.LIGHTER_COLOR: "lighter-color",
    BlendMode.OVERLAY: "overlay",
    BlendMode.SOFT_LIGHT: "soft-light",
    BlendMode.HARD_LIGHT: "hard-light",
    BlendMode.VIVID_LIGHT: "vivid-light",
    BlendMode.LINEAR_LIGHT: "linear-light",
    BlendMode.PIN_LIGHT: "pin-light",
    BlendMode.HARD_MIX: "hard-mix",
    BlendMode.DIFFERENCE: "difference",
    BlendMode.EXCLUSION: "exclusion",
    BlendMode.SUBTRACT: "subtract",
    BlendMode.DIVIDE: "divide",
    BlendMode.HUE: "hue",
    BlendMode.SATURATION: "saturation",
    BlendMode.COLOR: "color",
    BlendMode.LUMINOSITY: "luminosity",
}
"""Dissolve is missing: it is drawn as normal, with a note."""


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the one character of a PSD.

    Raises:
        InputError: when it is broken, flat, or beyond the limits.
    """
    try:
        document = PSDImage.open(path)
    except (OSError, ValueError, TypeError, KeyError, AssertionError, EOFError) as error:
        raise InputError(
            f"{path}: no PSD that can be read ({error}): save it again from its program"
        ) from error
    budget = Budget(path, settings)
    budget.canvas(document.width, document.height)
    budget.count(sum(1 for _ in document.descendants()))
    if not len(document):
        raise InputError(f"{path}: has no layers, only a flat picture: save it with its layers")
    reader = _Reader(document, budget)
    yield Drawing(
        name=path.stem,
        canvas=document.size,
        files=[path],
        layers=flat_layers(reader.nodes(document, ()), reader.notes),
        tool="psd-tools",
        notes=reader.notes,
        picture=reader.picture,
    )


class _Reader:
    """Turns the layers of one document into a tree."""

    def __init__(self, document: PSDImage, budget: Budget) -> None:
        self.notes: list[str] = []
        self._document = document
        self._budget = budget
        profile = document.image_resources.get_data(Resource.ICC_PROFILE)
        # A conversion from sRGB to sRGB would only cost time and a level here and there.
        self._apply_icc = isinstance(profile, bytes) and b"sRGB" not in profile[:1024]
        if document.color_mode != ColorMode.RGB or document.depth != 8:
            kind = f"{document.color_mode.name} of {document.depth} bit"
            self.notes.append(f"colours are {kind}: converted to RGB of 8 bit")

    def picture(self) -> Image8 | None:
        """The flat picture that the program saved beside the layers."""
        document = self._document
        if not document.has_preview():
            return None
        if document.color_mode != ColorMode.RGB or self._apply_icc:
            image = document.topil(apply_icc=self._apply_icc)
            return None if image is None else as_rgba(image, Path(document.name))
        values = document.numpy()
        planes = values[..., :4]
        if planes.shape[2] == 3:
            planes = np.concatenate([planes, np.ones_like(planes[..., :1])], axis=2)
        return np.rint(planes.clip(0, 1) * 255).astype(np.uint8)

    def nodes(self, layers: Any, around: tuple[str, ...]) -> list[Leaf | Group]:
        """The children of a group, or of the document, from back to front."""
        found = (self._node(layer, around) for layer in layers)
        return [node for node in found if node is not None]

    def _node(self, layer: Any, around: tuple[str, ...]) -> Leaf | Group | None:
        name = layer.name.strip("\0") or layer.kind
        told = "/".join((*around, name))
        shared: dict[str, Any] = {
            "name": name,
            "opacity": layer.opacity / 255 * layer.fill_opacity / 255,
            "visible": layer.visible,
            "clips": "base" if layer.clipping else "none",
        }
        if layer.has_effects():
            self.notes.append(f"{told}: has effects, which are left out: rasterize it to keep them")
        if isinstance(layer, PsdGroup):
            passes = layer.blend_mode == BlendMode.PASS_THROUGH
            return Group(
                children=self.nodes(layer, (*around, name)),
                blend=None if passes else self._blend(layer, told),
                mask=self._mask(layer, told),
                **shared,
            )
        shared["blend"] = self._blend(layer, told)
        if isinstance(layer, SolidColorFill) and not layer.has_pixels():
            color = _solid_color(layer)
            if color is not None and not layer.has_vector_mask():
                return Leaf(corner=(0, 0), rgba=lambda: self._filled(layer, told, color), **shared)
        if isinstance(layer, AdjustmentLayer) or not layer.has_pixels():
            if isinstance(layer, AdjustmentLayer) or layer.kind != "pixel":
                self.notes.append(
                    f"{told}: a layer of kind {layer.kind} has no pixels of its own and is left"
                    " out: rasterize or merge it to keep what it does"
                )
                return None
            empty = np.zeros((0, 0, 4), np.uint8)
            return Leaf(corner=layer.offset, rgba=lambda: empty, **shared)
        return Leaf(corner=layer.offset, rgba=lambda: self._pixels(layer, told), **shared)

    def _blend(self, layer: Any, told: str) -> str:
        if (mode := BLENDS.get(layer.blend_mode)) is None:
            self.notes.append(f"{told}: blend mode {layer.blend_mode.name.lower()} becomes normal")
        return mode or "normal"

    def _pixels(self, layer: Any, told: str) -> Image8:
        """Decode a layer with its mask: straight RGBA."""
        width, height = layer.size
        if width <= 0 or height <= 0:
            return np.zeros((0, 0, 4), np.uint8)
        self._budget.layer(told, width, height)
        image = layer.topil(apply_icc=self._apply_icc)
        rgba = as_rgba(image, Path(told))
        if image.mode not in ("RGBA", "LA"):
            # Pillow has no alpha beside these colours.
            alpha = layer.topil(ChannelID.TRANSPARENCY_MASK)
            if alpha is not None:
                rgba = np.dstack([rgba[..., :3], np.asarray(alpha.convert("L"))])
        return self._masked(rgba, layer, told)

    def _filled(self, layer: Any, told: str, color: Sequence[int]) -> Image8:
        width, height = self._document.size
        self._budget.layer(told, width, height)
        rgba = np.full((height, width, 4), (*color, 255), np.uint8)
        return self._masked(rgba, layer, told, corner=(0, 0))

    def _masked(
        self, rgba: Image8, layer: Any, told: str, corner: tuple[int, int] | None = None
    ) -> Image8:
        mask = self._mask(layer, told)
        if mask is None:
            return rgba
        x, y = corner or layer.offset
        alpha = rgba[..., 3] * mask((x, y, x + rgba.shape[1], y + rgba.shape[0]))
        return np.dstack([rgba[..., :3], np.rint(alpha).astype(np.uint8)])

    def _mask(self, layer: Any, told: str) -> Mask | None:
        """A layer's or group's mask; one of pixels and vectors together where the file has it."""
        mask = layer.mask
        if layer.has_vector_mask() and not (mask and mask.has_real()):
            self._note(f"{told}: has a vector mask, which is left out: rasterize it to keep it")
        if mask is None or mask.disabled:
            return None
        outside = mask.background_color / 255
        plane = np.zeros((0, 0), np.float32)
        if mask.width > 0 and mask.height > 0:
            self._budget.layer(f"mask of {told}", mask.width, mask.height)
            values = layer.numpy("mask")
            if values is not None:
                plane = values[..., 0]
        density = 1.0
        if mask.parameters is not None:
            if mask.parameters.user_mask_density is not None:
                density = mask.parameters.user_mask_density / 255
            if mask.parameters.user_mask_feather:
                self._note(f"{told}: its mask's feather is left out")
        corner = mask.left, mask.top

        def seen(box: tuple[int, int, int, int]) -> np.ndarray:
            return 1 - density * (1 - paste(plane, corner, box, outside))

        return seen

    def _note(self, text: str) -> None:
        # A mask may be asked for more than once.
        if text not in self.notes:
            self.notes.append(text)


def _solid_color(layer: Any) -> tuple[int, int, int] | None:
    """A fill's colour; None where it isn't given as RGB."""
    data = layer.data
    try:
        red, green, blue = (float(data[key]) for key in (b"Rd  ", b"Grn ", b"Bl  "))
    except (KeyError, TypeError, ValueError):
        return None
    return round(red), round(green), round(blue)
