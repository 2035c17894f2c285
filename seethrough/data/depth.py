"""The datasets of Marigold: the depth of a page (2D), or of a group of layers and the page (3D).

Both are indexed by a draw, and every choice an item makes (crop, mirroring, colour) is a function
of it. Pictures are ARGB uint8, straight alpha, alpha first; the colour of transparent pixels is
not filled: whoever feeds a network does so on its device, with `visible_colour`.

Depth is small where it is near: the page's nearest pixel has -1, the background +1. On disk it is
a level that counts in drawing order, larger nearer. One scale, the page's, holds for the page and
all its layers, so that depths of layers compare.

Both datasets have a page in the middle of its square. The published 2D one has it at the top left,
unlike the published 3D one, which goes on from 2D weights, and unlike decomposition.
"""

from functools import cached_property
from typing import Any, Literal

import attrs
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seethrough.data.colours import HsvChange, hsv_change
from seethrough.data.crops import alpha_box, fit_levels, shrink, square
from seethrough.data.draws import Draw
from seethrough.data.items import PAGE, SEEN_ALPHA, Crop, Item
from seethrough.data.padding import bleed_batch
from seethrough.data.sample_dataset import GroupDataset, SampleDataset
from seethrough.errors import InputError

Shrinkage = tuple[float, float, float]

Transparent = Literal["bled", "gray"]
"""What stands where a picture is transparent: the colours around it, or mid-gray."""
Beyond = Literal["far", "nearest"]
"""Depth around a layer: far, or that of its nearest pixel that has one, as by `spread`."""

_DEPTH = " depth"


def depth_of(name: str) -> str:
    """Name of the depth of the page or of a layer, among an item's pictures."""
    return name + _DEPTH


def disk_to_depth(levels: np.ndarray, nearest: int) -> np.ndarray:
    """Bring levels as they lie on disk to a network's depth.

    (h, w) uint8 or uint16, 0 empty, larger nearer -> float32 in [-1, 1], near -1, empty +1.
    `nearest` is the page's largest level, 0 where the page is empty; a level above it counts as it.
    """
    scale = nearest + 1e-6
    every = np.arange(int(levels.max(initial=0)) + 1)
    depth = (scale - np.minimum(every, nearest)) / scale * 2 - 1
    return depth.astype(np.float32)[levels]


def spread(levels: np.ndarray) -> np.ndarray:
    """Give each empty pixel the level of the nearest one that has any.

    (h, w) uint8 or uint16, 0 empty -> the same; where all are empty, they stay so.
    """
    empty = levels == 0
    if empty.all() or not empty.any():
        return levels
    _, nearest = cv2.distanceTransformWithLabels(
        empty.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.zeros(int(nearest.max()) + 1, levels.dtype)
    known[nearest[~empty]] = levels[~empty]
    return known[nearest]


def visible_colour(argb: Tensor, transparent: Transparent) -> Tensor:
    """Bring pictures to what an autoencoder sees of them.

    (N, 4, H, W) uint8 ARGB, straight alpha -> (N, 3, H, W) float32 in [-1, 1]. Where they are
    transparent stand the colours around it, or 0, mid-gray.
    """
    argb = argb.float() / 255
    if transparent == "gray":
        return (argb[:, 1:] * 2 - 1) * argb[:, :1]
    return bleed_batch(argb)[:, 1:] * 2 - 1


def depth_mask(argb: Tensor, depth: Tensor) -> Tensor:
    """Tell where a picture shows something whose depth is known.

    (..., 4, H, W) uint8 ARGB and (..., 1, H, W) in [-1, 1] -> (..., 1, H, W) bool. A pixel that
    is seen has no depth where layers were too thin for the renderer to give it a level.
    """
    return (argb[..., :1, :, :] > SEEN_ALPHA) & (depth < 1)


def latent_mask(mask: Tensor, factor: int = 8) -> Tensor:
    """Tell which cells of the latents lie wholly inside a mask.

    (N, 1, H, W) bool -> (N, 1, H / factor, W / factor) bool.
    """
    return functional.max_pool2d((~mask).float(), factor) == 0


@attrs.frozen
class PageCrop:
    """A crop around the whole page, or around its character."""

    to: Literal["page", "character"]
    """What is cropped to."""
    shrinkage: Shrinkage | None
    """How the square around that is shrunk, as `shrink` takes it."""
    flip: bool
    """Whether the pictures are mirrored left to right."""

    def on(self, page: np.ndarray) -> Crop:
        """Find the box on a page, (H, W, 4) RGBA."""
        height, width = page.shape[:2]
        box = (0, 0, width, height) if self.to == "page" else alpha_box(page[..., 3])
        return _shrunk(Crop(box, self.flip), self.shrinkage)


@attrs.define(kw_only=True, slots=False, eq=False)
class DepthItem(Item):
    """An item whose frames have a depth each; all pictures and depths are changed alike."""

    flip_vertical: bool = False
    """Whether the pictures and depths are mirrored top to bottom."""
    hsv_change: HsvChange | None = None
    """How the pictures' colours are changed."""
    spread: bool = False
    """Whether depths go on beyond their layers, as `spread` does."""

    @property
    def names(self) -> list[str]:
        """The item's pictures, and the depths of its frames that the sample has (`depth_of`)."""
        return [*super().names, *(depth_of(name) for name in self.frames if name is not None)]

    def key(self, name: str) -> str:
        """Everything but the sample's bytes that a picture, or a depth, is a function of."""
        return f"{super().key(name)} {self.flip_vertical} {self.hsv_change!r} {self.spread}"

    def bytes_hash(self) -> str:
        """Hash the bytes of all files of the sample, those of depths among them."""
        return f"{super().bytes_hash()} {self.sample.depths_hash()}"

    def picture(self, name: str) -> Tensor:
        """Decode and cut one picture: (4, T, T) uint8 ARGB, straight alpha, not filled.

        By the name that `depth_of` gives, one depth, as `depth` does.
        """
        if name.endswith(_DEPTH):
            return self.depth(name.removesuffix(_DEPTH))
        planes = self._planes(name)
        if self.hsv_change is not None:
            planes[1:] = self.hsv_change(planes[1:])
        return self._mirrored(torch.from_numpy(planes))

    def depth(self, name: str) -> Tensor:
        """Decode and cut the depth of the page or of a layer: (1, T, T) float32 in [-1, 1]."""
        if name == PAGE:
            levels = self._page_levels
        else:
            crop = self._cut
            levels = self.sample.depth(name)
            levels = fit_levels(levels, self.sample.boxes[name], crop.box, self.side, crop.flip)
        nearest = int(self._page_levels.max())
        if self.spread:
            levels = spread(levels)
        return self._mirrored(torch.from_numpy(disk_to_depth(levels, nearest))[None])

    def _mirrored(self, picture: Tensor) -> Tensor:
        return picture.flip(-2) if self.flip_vertical else picture

    @cached_property
    def _page_levels(self) -> np.ndarray:
        """The page's levels, cut."""
        levels = self.sample.depth()
        height, width = levels.shape
        if self.sample.size is None and self._page.shape[:2] != (height, width):
            raise InputError(
                f"{self.sample.path('_depth.png')}: {width} x {height} pixels, but the page has "
                f"{self._page.shape[1]} x {self._page.shape[0]}; render the sample again"
            )
        if not levels.any():
            raise InputError(
                f"{self.sample.path('_depth.png')}: no pixel has a level above 0, so there is no "
                "depth to learn; render the sample again"
            )
        crop = self._cut
        return fit_levels(levels, (0, 0, width, height), crop.box, self.side, crop.flip)


@attrs.define(kw_only=True, slots=False, eq=False)
class DepthDataset(SampleDataset):
    """What both datasets share: how crops are shrunk and colours changed."""

    random_crop: float = 0.0
    """Probability of a crop shrunk to a random square inside it."""
    random_crop_ratio: float = 0.3
    """Largest share of its side that such a crop loses, below 1."""
    random_hsv: float = 0.0
    """Probability of colours changed at random."""
    beyond: Beyond = "far"
    """Depth around a layer."""

    def _shrinkage(self, draw: Draw) -> Shrinkage | None:
        chance, share, x, y = draw.numpy("shrink").random(4).tolist()
        return (share * self.random_crop_ratio, x, y) if chance < self.random_crop else None


@attrs.define(kw_only=True, slots=False, eq=False)
class DepthDataset2D(DepthDataset):
    """A page and its depth: `dataset[draw]`.

    An item holds `page`, (4, T, T) uint8 ARGB with the character's alpha; `depth`, (1, T, T)
    float32 in [-1, 1]; `mask`, (1, T, T) bool, as `depth_mask`, never empty; `name` of the sample;
    and `draw`. A sample needs no annotation. A crop that would miss the character is not shrunk.
    """

    random_flip: float = 0.0
    """Probability that an item may be mirrored, in the ways that follow."""
    flip_horizontal: float = 0.8
    """Of these items, probability of mirroring left to right."""
    flip_vertical: float = 0.3
    """Of these items, independently, probability of mirroring top to bottom."""
    crop_to: Literal["page", "character"] = "page"
    """Whether the crop is the whole page or the box of the character's alpha."""

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item, pictures = self.shown(draw)
        return {"draw": draw, **item.text, **pictures}

    def shown(self, draw: Draw) -> tuple[DepthItem, dict[str, Tensor]]:
        """Choose for a draw what shows the character: the choice, `page`, `depth` and `mask`."""
        item = self.item(draw)
        pictures = _page_pictures(item)
        crop = item.crop
        if not pictures["mask"].any() and isinstance(crop, PageCrop) and crop.shrinkage is not None:
            item = attrs.evolve(item, crop=attrs.evolve(crop, shrinkage=None))
            pictures = _page_pictures(item)
        if not pictures["mask"].any():
            raise InputError(
                f"{item.sample.page_path}: no pixel that shows the character (alpha above "
                f"{SEEN_ALPHA}) has a level in {item.sample.path('_depth.png').name}; render the "
                "sample again"
            )
        return item, pictures

    def item(self, draw: Draw) -> DepthItem:
        """Open a draw's sample and choose from it; its text is `name`."""
        sample = self.sample(draw.sample)
        chance, horizontal, vertical = draw.numpy("flip").random(3).tolist()
        chosen = chance < self.random_flip
        flip = chosen and horizontal < self.flip_horizontal
        return DepthItem(
            draw=draw,
            sample=sample,
            crop=PageCrop(self.crop_to, self._shrinkage(draw), flip),
            frames=(PAGE,),
            conditions=(PAGE,),
            text={"name": sample.name},
            side=self.target_size,
            page_alpha="character",
            flip_vertical=chosen and vertical < self.flip_vertical,
            hsv_change=hsv_change(draw, self.random_hsv),
            spread=self.beyond == "nearest",
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class DepthDataset3D(DepthDataset, GroupDataset):
    """The layers of one group of tags, the page, and their depths: `dataset[draw]`.

    An item holds `frames`, (F, 4, T, T) uint8 ARGB in the order of the group's tags, the page last
    with `page_frame`; `depths`, (F, 1, T, T) float32 in [-1, 1]; `masks`, (F, 1, T, T) bool, as
    `depth_mask`; `present`, (F,) bool; `tags`, F names of the frames; `page`, (4, T, T) uint8 ARGB
    with the character's alpha; `group_index`; `name` of the sample; and `draw`. A frame that the
    sample has no layer for is transparent, far (+1) everywhere, and its mask is empty; it is left
    out without `absent`. A sample without any layer of the group gives the whole page.
    """

    page_frame: bool = True
    """Whether the page is the last frame."""
    absent: bool = True
    """Whether a tag that the sample has no layer for is a frame."""

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item = self.item(draw)
        size, frame_count = self.target_size, len(item.frames)
        page = item.picture(PAGE)
        # NumPy's zeros cost nothing until they are written: absent frames stay free.
        frames = torch.from_numpy(np.zeros((frame_count, 4, size, size), np.uint8))
        depths = torch.ones(frame_count, 1, size, size)
        masks = torch.from_numpy(np.zeros((frame_count, 1, size, size), bool))
        for index, name in enumerate(item.frames):
            if name is not None:
                frames[index] = page if name == PAGE else item.picture(name)
                depths[index] = item.depth(name)
                masks[index] = depth_mask(frames[index], depths[index])
        return {
            "draw": draw,
            **item.text,
            "page": page,
            "frames": frames,
            "depths": depths,
            "masks": masks,
            "present": torch.tensor([name is not None for name in item.frames]),
        }

    def item(self, draw: Draw) -> DepthItem:
        """Open a draw's sample; its text is `tags`, `group_index` and `name`."""
        sample = self.sample(draw.sample)
        group_index = self.group(draw)
        tags = self.groups[group_index]
        if not self.absent:
            tags = tuple(tag for tag in tags if tag in sample.boxes)
        page = (PAGE,) if self.page_frame else ()
        return DepthItem(
            draw=draw,
            sample=sample,
            crop=_shrunk(self._group_crop(sample, group_index, draw), self._shrinkage(draw)),
            frames=(*(tag if tag in sample.boxes else None for tag in tags), *page),
            conditions=(PAGE,),
            text={"tags": [*tags, *page], "group_index": group_index, "name": sample.name},
            side=self.target_size,
            page_alpha="character",
            hsv_change=hsv_change(draw, self.random_hsv),
            spread=self.beyond == "nearest",
        )


def _page_pictures(item: DepthItem) -> dict[str, Tensor]:
    page, depth = item.picture(PAGE), item.depth(PAGE)
    return {"page": page, "depth": depth, "mask": depth_mask(page, depth)}


def _shrunk(crop: Crop, shrinkage: Shrinkage | None) -> Crop:
    return crop if shrinkage is None else Crop(shrink(square(crop.box), shrinkage), crop.flip)
