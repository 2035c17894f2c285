"""What is measured and kept of one photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import cv2
import numpy as np
import torch
from torch import Tensor

from seethrough.data.class_colours import nearest_class, palette
from seethrough.data.trans10k import CLASSES, Difficulty, Pair
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.mask_picture import comparison, grey
from seethrough.inference.transparency import fit_mask, fit_photo, soft_masks
from seethrough.metrics.segmentation import (
    THRESHOLD,
    TRANSLAB_SIDE,
    ImageScores,
    TransLabScores,
    image_scores,
)
from seethrough.segment.results import OVERLAY, PHOTO, PREDICTION, QUANTISED, TRUTH


@attrs.frozen(kw_only=True)
class PhotoScores:
    """The measures of one photo."""

    name: str
    """With the difficulty in front, where the dataset tells it: `easy/12`."""
    difficulty: Difficulty | None
    image: ImageScores
    """In the protocol per image."""
    translab: dict[str, Any]
    """State of a `TransLabScores` that this photo alone was given, as plain numbers."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PhotoScores:
        """The inverse of `attrs.asdict`."""
        return cls(**{**plain, "image": ImageScores(**plain["image"])})


def photo_name(pair: Pair) -> str:
    """A photo's name in results: with its difficulty, as both may have a photo of one name."""
    return pair.name if pair.difficulty is None else f"{pair.difficulty}/{pair.name}"


def check_classes(pair: Pair, classes: int) -> None:
    """Raise InputError for a model that tells other classes than the dataset, and not just two."""
    known = len(CLASSES[pair.version])
    if classes not in (2, known):
        raise InputError(
            f"{pair.mask}: version {pair.version} of Trans10K has {known} classes, but the model "
            f"was trained to tell {classes}: give the other version"
        )


def measure(
    pair: Pair, picture: Tensor, true: np.ndarray, classes: int, grid: int | None
) -> PhotoScores:
    """Measure a photo in both protocols.

    Args:
        pair: whose photo it is.
        picture: the predicted mask as a picture, (3, S, S) in [0, 1].
        true: the class of each pixel, (H, W) uint8, at the photo's size.
        classes: colours of the picture, two or those of the dataset.
        grid: side of the square of the protocol per image; None for the photo's own size.
    """
    size = (grid, grid) if grid else (true.shape[0], true.shape[1])
    seen = resized(picture, size)
    # Black and white: MSE over the channels, as published. Colours say no more than the soft mask.
    soft = seen if classes == 2 else soft_masks(seen[None], classes)[0]
    translab = TransLabScores(classes)
    square = (TRANSLAB_SIDE, TRANSLAB_SIDE)
    found = _found(resized(picture, square), classes)
    known = true if classes > 2 else (true > 0).astype(np.uint8)
    translab.update(found, torch.from_numpy(nearest(known, square)))
    states: dict[str, Any] = translab.metric_state
    return PhotoScores(
        name=photo_name(pair),
        difficulty=pair.difficulty,
        image=image_scores(soft, torch.from_numpy(nearest(true, size))),
        translab={name: state.tolist() for name, state in states.items()},
    )


def pictures(
    photo: Image8, picture: Tensor, true: np.ndarray, classes: int, grid: int | None
) -> dict[str, Image8]:
    """The published pictures of a photo by the end of their name, on the grid that is measured."""
    size = (grid, grid) if grid else (true.shape[0], true.shape[1])
    soft = soft_masks(resized(picture, size)[None], classes)[0].numpy()
    return {
        PREDICTION: grey(soft),
        QUANTISED: grey(soft > THRESHOLD),
        TRUTH: grey(nearest(true, size) > 0),
        PHOTO: fit_photo(photo, grid) if grid else photo,
    }


def small_comparison(
    photo: Image8, picture: Tensor, true: np.ndarray, classes: int
) -> dict[str, Image8]:
    """What was found, missed and wrong, over the photo, at most `TRANSLAB_SIDE` px long."""
    scale = min(1.0, TRANSLAB_SIDE / max(true.shape))
    height, width = (max(1, round(side * scale)) for side in true.shape)
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    soft = soft_masks(resized(picture, (height, width))[None], classes)[0].numpy()
    truth = nearest(true, (height, width)) > 0
    return {OVERLAY: comparison(np.asarray(small, np.uint8), soft > THRESHOLD, truth)}


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (3, h, w) at a size (height, width)."""
    plane = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    return torch.from_numpy(fit_mask(plane, size)).permute(2, 0, 1)


def nearest(classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Classes (H, W) uint8 at a size (height, width): each pixel takes one of them."""
    return np.asarray(cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST))


def _found(picture: Tensor, classes: int) -> Tensor:
    if classes == 2:
        return soft_masks(picture[None])[0] > THRESHOLD
    return nearest_class(picture[None], palette(classes))[0]
