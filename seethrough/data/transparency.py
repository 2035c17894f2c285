"""The dataset of transparency: a photo and the mask of what is transparent in it.

It is indexed by a draw, and every choice an item makes is a function of it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.data.photo_augmentation import PhotoChange, photo_change
from seethrough.data.trans10k import Difficulty, Pair, Split, find_pairs, read_pair
from seethrough.errors import InputError


@attrs.define(kw_only=True, slots=False, eq=False)
class TransparencyDataset(Dataset[dict[str, Any]]):
    """Photos and masks of Trans10K: `dataset[draw]`.

    An item holds `photo`, (3, T, T) uint8 RGB; `mask`, (T, T) uint8, 1 where something is
    transparent, or with `classes_apart` the class; `name` and `difficulty` of the pair; and `draw`.
    Both are squeezed to a square, whatever their shape: the photo bilinearly, as OpenCV does
    without a filter, the mask to the nearest pixel. What changes at random changes before that, at
    the photo's own size.

    Making one lists the folders and raises InputError as `find_pairs`; no picture is opened. An
    item raises InputError as `read_pair`.
    """

    sources: Sequence[tuple[str | Path, int]]
    """Folders in the layout of Trans10K and their rates: a rate repeats its folder."""
    split: Split = "train"
    """Which split of theirs."""
    difficulty: Difficulty | None = None
    """The pairs of one difficulty only; None for all."""
    target_sizes: Sequence[int]
    """Side T of the squares in pixels; of several, each optimizer step draws one for its batch."""
    classes_apart: bool = False
    """Whether a mask tells classes; else all that is transparent is 1."""
    random_flip: float = 0.0
    """Probability of mirroring left to right."""
    random_colour: float = 0.0
    """Probability of changed brightness, contrast, saturation and hue."""
    random_blur: float = 0.0
    """Probability of a blur, by motion or Gaussian."""
    random_noise: float = 0.0
    """Probability of Gaussian noise."""

    _pairs: list[Pair] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.sources:
            raise InputError("no folder of Trans10K is given; name at least one")
        self._pairs = []
        for root, rate in self.sources:
            if rate < 1:
                raise InputError(f"{root}: rate {rate} of a folder; give a whole number from 1")
            self._pairs += find_pairs(root, self.split, self.difficulty) * rate
        if self.classes_apart and len({pair.version for pair in self._pairs}) > 1:
            raise InputError(
                "the folders hold both versions of Trans10K, whose classes differ: train on one "
                "version, or with the classes merged"
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, row: int) -> Pair:
        """Tell the files of a row."""
        return self._pairs[row]

    def side(self, draw: Draw) -> int:
        """Tell the side of a draw's square: that of its optimizer step."""
        step = attrs.evolve(draw, index=0, sample=0)
        return self.target_sizes[int(step.numpy("side").integers(len(self.target_sizes)))]

    def change(self, draw: Draw) -> PhotoChange:
        """Choose how a draw's photo changes."""
        return photo_change(
            draw,
            flip=self.random_flip,
            colour=self.random_colour,
            blur=self.random_blur,
            noise=self.random_noise,
        )

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        pair = self.pair(draw.sample)
        photo, mask = self.change(draw)(*read_pair(pair))
        if not self.classes_apart:
            mask = (mask > 0).astype(np.uint8)
        photo, mask = squeeze(photo, mask, self.side(draw))
        return {
            "draw": draw,
            "name": pair.name,
            "difficulty": pair.difficulty,
            "photo": torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))),
            "mask": torch.from_numpy(mask),
        }


def squeeze(photo: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bring a photo (H, W, 3) and its mask (H, W), uint8, to a square; the shape is not kept."""
    size = (side, side)
    return (
        cv2.resize(photo, size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST),
    )
