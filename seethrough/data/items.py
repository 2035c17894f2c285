"""One item of a dataset: an opened sample, what a draw chose from it, and its pictures."""

from functools import cached_property
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

from seethrough.data.crops import Box, alpha_box, argb_planes, enlarge, fit_layer, fit_page
from seethrough.data.draws import Draw
from seethrough.data.layout import Sample

PAGE = "page"
"""Name of the page among an item's pictures."""

CHARACTER = ""
"""Name of the whole character: the page with the character's alpha."""

Fractions = tuple[float, float, float, float]

PageAlpha: TypeAlias = Literal["full", "character"]
"""`full`: the page keeps its background under an alpha of 1. `character`: its alpha is the
character's, and the colour of transparent pixels is as in a layer."""


@attrs.frozen
class Crop:
    """Where an item's pictures are cut, and whether they are mirrored."""

    box: Box
    """The box on the page."""
    flip: bool
    """Whether the pictures are mirrored left to right."""


@attrs.frozen
class CharacterCrop:
    """A crop around the whole character, whose box only the decoded page tells."""

    enlargement: Fractions | None
    """How far the box of the character's alpha is enlarged, as `enlarge` takes it."""
    flip: bool
    """Whether the pictures are mirrored left to right."""

    def on(self, page: np.ndarray) -> Crop:
        """Find the box on a page, (H, W, 4) RGBA."""
        box = alpha_box(page[..., 3])
        if self.enlargement is not None:
            box = enlarge(box, page.shape[0], page.shape[1], self.enlargement)
        return Crop(box, self.flip)


@attrs.define(kw_only=True, slots=False, eq=False)
class Item:
    """What a draw chose from a sample; a picture is decoded when it is asked for.

    The sample's annotation was read once, for all that is here; its page is decoded at most once.
    """

    draw: Draw
    """The item's place in the run."""
    sample: Sample
    """The sample's annotation."""
    crop: Crop | CharacterCrop
    """Where the pictures are cut."""
    frames: tuple[str | None, ...]
    """The picture of each frame to predict, None where the sample has no such layer."""
    conditions: tuple[str, ...]
    """The pictures to predict them from."""
    text: dict[str, Any]
    """Captions, names and the like, by key."""
    side: int
    """Side T of the pictures in pixels."""
    page_alpha: PageAlpha
    """What the page's alpha is."""

    def describe(self) -> dict[str, Any]:
        """All of the item but its pictures; nothing is decoded."""
        return {
            "draw": self.draw,
            "frames": list(self.frames),
            "conditions": list(self.conditions),
            **self.text,
        }

    @property
    def names(self) -> list[str]:
        """The item's pictures: those of its frames that the sample has, and its conditions."""
        return [name for name in (*self.frames, *self.conditions) if name is not None]

    def key(self, name: str) -> str:
        """Everything but the sample's bytes that a picture is a function of, as text."""
        page = f" {self.page_alpha}" if name == PAGE else ""
        return f"{name!r} {self.crop!r} {self.side}{page}"

    def picture(self, name: str) -> Tensor:
        """Decode and cut one picture: (4, T, T) uint8 ARGB, straight alpha, not filled."""
        return torch.from_numpy(argb_planes(self._rgba(name)))

    def _rgba(self, name: str) -> np.ndarray:
        """(T, T, 4) uint8 RGBA."""
        if name == PAGE and self.page_alpha == "full":
            fitted = fit_page(self._page, self._cut.box, self.side, self._cut.flip)
            fitted[..., 3] = 255
            return fitted
        if name in (PAGE, CHARACTER):
            height, width = self._page.shape[:2]
            return self._layer(self._page, (0, 0, width, height))
        return self._layer(self.sample.layer(name), self.sample.boxes[name])

    @cached_property
    def _page(self) -> np.ndarray:
        return self.sample.page()

    @cached_property
    def _cut(self) -> Crop:
        return self.crop if isinstance(self.crop, Crop) else self.crop.on(self._page)

    def _layer(self, layer: np.ndarray, at: Box) -> np.ndarray:
        return fit_layer(layer, at, self._cut.box, self.side, self._cut.flip)
