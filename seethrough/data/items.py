"""One item of a dataset: an opened sample, what a draw chose from it, and its pictures."""

from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

from seethrough.data.crops import Box, alpha_box, argb_planes, enlarge, fit_layer_planes, fit_page
from seethrough.data.draws import Draw
from seethrough.data.layout import Sample
from seethrough.data.masks import MaskChange

PAGE = "page"
"""Name of the page among an item's pictures."""

CHARACTER = ""
"""Name of the whole character: the page with the character's alpha."""

VISIBLE = "visible"
"""Name of what is seen of the item's layer on the page."""

SEEN_ALPHA = 25
"""A page's pixel shows the character where its alpha, of 255, is above this."""

Fractions = tuple[float, float, float, float]

PageAlpha: TypeAlias = Literal["full", "character", "mask"]
"""`full`: the page keeps its background under an alpha of 1. `character`: its alpha is the
character's, and the colour of transparent pixels is as in a layer. `mask`: its alpha is 1 where
the character is seen, else 0."""


@attrs.frozen
class Crop:
    """Where an item's pictures are cut, and whether they are mirrored."""

    box: Box
    """The box on the page."""
    flip: bool
    """Whether the pictures are mirrored left to right."""


class CropOfPage(Protocol):
    """A crop whose box only the decoded page tells."""

    def on(self, page: np.ndarray) -> Crop:
        """Find the box on a page, (H, W, 4) RGBA."""
        ...


@attrs.frozen
class CharacterCrop:
    """A crop around the whole character."""

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
    crop: Crop | CropOfPage
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
    mask_change: MaskChange | None = None
    """How the page's mask is changed."""

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
        named = (name for name in (*self.frames, *self.conditions) if name is not None)
        return list(dict.fromkeys(named))

    def key(self, name: str) -> str:
        """Everything but the sample's bytes that a picture is a function of, as text."""
        more = ""
        if name == PAGE:
            more = f" {self.page_alpha} {self.mask_change!r}"
        elif name == VISIBLE:
            more = f" of {self.frames[0]!r} {self.sample.masks_hash()}"
        return f"{name!r} {self.crop!r} {self.side}{more}"

    def bytes_hash(self) -> str:
        """Hash the bytes of all files of the sample that its pictures are made from."""
        return self.sample.bytes_hash()

    def picture(self, name: str) -> Tensor:
        """Decode and cut one picture: (4, T, T) uint8 ARGB, straight alpha, not filled."""
        return torch.from_numpy(self._planes(name))

    def _planes(self, name: str) -> np.ndarray:
        if name == PAGE and self.page_alpha != "character":
            return self._page_planes()
        crop = self._cut
        if name in (PAGE, CHARACTER):
            height, width = self._page.shape[:2]
            layer, at = self._page, (0, 0, width, height)
        elif name == VISIBLE:
            layer, at = self._visible()
        else:
            layer, at = self.sample.layer(name), self.sample.boxes[name]
        return fit_layer_planes(layer, at, crop.box, self.side, crop.flip)

    def _page_planes(self) -> np.ndarray:
        """The page with its background, or without where nothing of the character is seen."""
        crop = self._cut
        planes = argb_planes(fit_page(self._page, crop.box, self.side, crop.flip))
        if self.page_alpha == "mask":
            mask = planes[0] > SEEN_ALPHA
            if self.mask_change is not None:
                mask = self.mask_change(mask)
            planes[0] = 255
            planes *= mask
        else:
            planes[0] = 255
        return planes

    def _visible(self) -> tuple[np.ndarray, Box]:
        """What of the item's layer is seen on the page, and where it lies."""
        (tag,) = self.frames
        assert tag
        x1, y1, x2, y2 = box = self.sample.boxes[tag]
        mask = self.sample.masks([tag])[tag][y1:y2, x1:x2]
        return self.sample.layer(tag) * mask[..., None], box

    @cached_property
    def _page(self) -> np.ndarray:
        return self.sample.page()

    @cached_property
    def _cut(self) -> Crop:
        return self.crop if isinstance(self.crop, Crop) else self.crop.on(self._page)
