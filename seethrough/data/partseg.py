"""The dataset of body parts: a page, and the mask of each part.

It is indexed by a draw, and every choice an item makes is a function of it. A page lies in the
middle of its square, in training as in use; the published training has it at the top left, the
published use in the middle.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch.utils.data import Dataset

from seethrough.data.colours import HsvChange, hsv_change
from seethrough.data.crops import fit_levels, fit_page, resize, shrink, square
from seethrough.data.draws import Draw
from seethrough.data.layout import Box
from seethrough.data.part_masks import read_part_masks
from seethrough.data.part_tags import PART_TAGS, mirrored
from seethrough.data.pictures import read_picture
from seethrough.data.sample_list import read_sources
from seethrough.errors import InputError


@attrs.frozen
class View:
    """What of a page an item shows, and how."""

    shrinkage: tuple[float, float, float] | None
    """How the square around the page is shrunk, as `shrink` takes it."""
    flip_horizontal: bool
    """Whether all is mirrored left to right."""
    flip_vertical: bool
    """Whether all is mirrored top to bottom."""
    small_side: int | None
    """Side in px that the picture, not the masks, is shrunk to before it gets its size."""
    hsv_change: HsvChange | None
    """How its colours are changed."""

    def picture(self, page: np.ndarray, side: int) -> np.ndarray:
        """A page (H, W, 3) uint8 RGB as planes (3, side, side), black around it."""
        height, width = page.shape[:2]
        shown = fit_page(page, self._box(height, width), side, self.flip_horizontal)
        if self.small_side is not None:
            shown = resize(resize(shown, self.small_side), side)
        planes = np.ascontiguousarray(shown.transpose(2, 0, 1))
        if self.hsv_change is not None:
            planes = self.hsv_change(planes)
        return np.ascontiguousarray(planes[:, ::-1]) if self.flip_vertical else planes

    def masks(self, masks: np.ndarray, side: int) -> np.ndarray:
        """Masks (C, H, W) bool likewise, (C, side, side): what each pixel's centre is."""
        height, width = masks.shape[1:]
        at, box = (0, 0, width, height), self._box(height, width)
        shown = np.zeros((len(masks), side, side), bool)
        for plane, mask in enumerate(masks):
            if mask.any():
                levels = mask.astype(np.uint8)
                shown[plane] = fit_levels(levels, at, box, side, self.flip_horizontal)
        return np.ascontiguousarray(shown[:, ::-1]) if self.flip_vertical else shown

    def _box(self, height: int, width: int) -> Box:
        box = square((0, 0, width, height))
        return box if self.shrinkage is None else shrink(box, self.shrinkage)


WHOLE = View(None, False, False, None, None)
"""All of a page, as it is."""


@attrs.define(kw_only=True, slots=False, eq=False)
class PartSegDataset(Dataset[dict[str, Any]]):
    """Pages and their parts: `dataset[draw]`.

    An item holds `picture`, (3, T, T) uint8 RGB; `masks`, (C, T, T) bool in the order of `tags`;
    `valid`, (C,) bool, whether a mask is to be relied on; and `draw`. Of a page with alpha the
    colour counts, which shows its background.

    Making one reads the sample lists and raises InputError as `read_sources`, and for a tag that
    can't be one. An item raises InputError, naming the file, if its page or masks can't be read.
    """

    sources: Sequence[tuple[str | Path, int]]
    """Sample lists and their rates: a rate repeats its list."""
    data_roots: Sequence[str] = ()
    """Folders in which relative entries of the lists are looked up, besides."""
    tags: Sequence[str]
    """What to find, of `PART_TAGS`."""
    target_size: int
    """Side T of the pictures in px."""
    random_flip: float = 0.0
    """Probability that an item may be mirrored, in the ways that follow."""
    flip_horizontal: float = 0.8
    """Of these items, probability of mirroring left to right."""
    flip_vertical: float = 0.3
    """Of these items, independently, probability of mirroring top to bottom."""
    random_crop: float = 0.0
    """Probability of a crop to a random square inside the page's."""
    random_crop_ratio: float = 0.3
    """Largest share of its side that such a crop loses, below 1."""
    random_hsv: float = 0.0
    """Probability of colours changed at random."""
    random_downscale: float = 0.0
    """Probability of a picture without detail, enlarged from one of `downscale_sizes`."""
    downscale_sizes: Sequence[int] = (48, 64, 128, 256)
    """Sides in px of such pictures, each as likely as the others."""

    _pages: list[Path] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for tag in self.tags:
            if tag not in PART_TAGS:
                raise InputError(f"tags: {tag!r} is no part; known are {', '.join(PART_TAGS)}")
        self._pages = read_sources(self.sources, self.data_roots)

    def __len__(self) -> int:
        return len(self._pages)

    def page_path(self, row: int) -> Path:
        """Tell the page's file of a row."""
        return self._pages[row]

    def view(self, draw: Draw) -> View:
        """Choose what a draw shows."""
        chance, share, x, y = draw.numpy("shrink").random(4).tolist()
        shrinkage = (share * self.random_crop_ratio, x, y) if chance < self.random_crop else None
        chance, horizontal, vertical = draw.numpy("flip").random(3).tolist()
        flips = chance < self.random_flip
        chance, place = draw.numpy("downscale").random(2).tolist()
        small = self.downscale_sizes[int(place * len(self.downscale_sizes))]
        return View(
            shrinkage=shrinkage,
            flip_horizontal=flips and horizontal < self.flip_horizontal,
            flip_vertical=flips and vertical < self.flip_vertical,
            small_side=small if chance < self.random_downscale else None,
            hsv_change=hsv_change(draw, self.random_hsv),
        )

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        path, view = self._pages[draw.sample], self.view(draw)
        page = read_picture(path)[..., :3]
        # What becomes the left eye was the right one.
        tags = [mirrored(tag) for tag in self.tags] if view.flip_horizontal else self.tags
        parts = read_part_masks(path, tags, (page.shape[0], page.shape[1]))
        return {
            "draw": draw,
            "picture": torch.from_numpy(view.picture(page, self.target_size)),
            "masks": torch.from_numpy(view.masks(parts.masks, self.target_size)),
            "valid": torch.from_numpy(parts.valid),
        }
