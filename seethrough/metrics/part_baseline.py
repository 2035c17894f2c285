"""What a model of body parts must beat: for every page the same masks, those of the mean page."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""Shares of the pages to choose from; a pixel belongs to a part where more of them have it."""


def mean_masks(pages: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    """The masks (C, H, W) that all pages are given, from those of known pages of one size.

    Of each part it is the mean over the pages, cut at the threshold at which the intersections
    with the known masks over all pages, by the unions, are largest.
    """
    means = np.mean(pages, axis=0)
    return np.stack([_best(mean, len(pages)) for mean in means])


def _best(mean: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.bool_]:
    """The mean mask of a part, cut where it fits best."""
    candidates = [mean > threshold for threshold in THRESHOLDS]
    return max(candidates, key=lambda mask: _overlap(mask, mean, count))


def _overlap(mask: npt.NDArray[np.bool_], mean: npt.NDArray[np.floating], count: int) -> float:
    """Intersection over union of one mask with those of all pages; 0 if there is nothing.

    Sums over pages follow from the mean: pixels of the mask that pages have, and all that they
    have.
    """
    right = float(mean[mask].sum()) * count
    union = float(mean.sum()) * count + int(mask.sum()) * count - right
    return right / union if union else 0.0
