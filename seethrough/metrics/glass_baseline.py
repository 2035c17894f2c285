"""What a network must beat: a mask from one brightness or colour of the photo, smoothed and cut.

Everything about it is chosen on the training split, and nothing but that is learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import attrs
import cv2
import numpy as np

Feature = Literal["brightness", "saturation", "contrast"]

FEATURES: tuple[Feature, ...] = ("brightness", "saturation", "contrast")

SMOOTHINGS = (0.0, 0.01, 0.02, 0.04, 0.08)
"""Standard deviations that are tried, as shares of the longer side; 0 smooths nothing."""

LEVELS = 64
"""Thresholds that are tried, evenly spaced from 0 to 1."""


@attrs.frozen
class ThresholdBaseline:
    """Takes a pixel for transparent where a smoothed feature of the photo is above, or below."""

    feature: Feature
    """Brightness is the mean of the channels, saturation that of HSV, contrast the deviation of
    brightness in the window that smooths."""
    smoothing: float
    """Standard deviation of the Gaussian window, as a share of the longer side."""
    threshold: float
    """Between 0 and 1."""
    above: bool
    """Whether what is above the threshold is transparent, or what is below."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Predict a mask: (H, W, 3) uint8 RGB -> (H, W) bool."""
        plane = feature_plane(photo, self.feature, self.smoothing)
        return (plane >= self.threshold) == self.above


def tune(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> ThresholdBaseline:
    """Choose the baseline with the best mean IoU over images of the training split.

    A threshold of 0 takes every pixel for transparent, so that answer is among the choices.

    Args:
        pairs: photos, (H, W, 3) uint8 RGB, with their masks, (H, W), transparent where not 0.

    Raises:
        ValueError: without a pair.
    """
    count = 0
    totals: dict[tuple[Feature, float], np.ndarray] = {}
    for photo, mask in pairs:
        count += 1
        for feature in FEATURES:
            for smoothing in _smoothings(feature):
                ious = _ious(feature_plane(photo, feature, smoothing), mask != 0)
                totals[feature, smoothing] = totals.get((feature, smoothing), 0) + ious
    if not count:
        raise ValueError("no pair to tune on")
    (feature, smoothing), best = max(totals.items(), key=lambda item: item[1].max())
    side, level = np.unravel_index(int(best.argmax()), best.shape)
    return ThresholdBaseline(feature, smoothing, float(_thresholds()[level]), above=bool(side == 0))


def feature_plane(photo: np.ndarray, feature: Feature, smoothing: float) -> np.ndarray:
    """A smoothed feature of a photo: (H, W, 3) uint8 -> (H, W) float32 in [0, 1]."""
    window = smoothing * max(photo.shape[:2])
    if feature == "saturation":
        plane = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)[..., 1].astype(np.float32) / 255
        return _smooth(plane, window)
    plane = photo.astype(np.float32).mean(-1) / 255
    mean = _smooth(plane, window)
    if feature == "brightness":
        return mean
    # The deviation of values in [0, 1] is at most a half.
    return 2 * np.sqrt(np.clip(_smooth(plane**2, window) - mean**2, 0, None))


def _smoothings(feature: Feature) -> Iterator[float]:
    """Those that make sense: a single pixel has no contrast."""
    yield from (one for one in SMOOTHINGS if one > 0 or feature != "contrast")


def _smooth(plane: np.ndarray, window: float) -> np.ndarray:
    return cv2.GaussianBlur(plane, (0, 0), window) if window > 0 else plane


def _thresholds() -> np.ndarray:
    return np.linspace(0, 1, LEVELS + 1)


def _ious(plane: np.ndarray, true: np.ndarray) -> np.ndarray:
    """IoU of every threshold, (2, LEVELS + 1): what is at it or above first, then below."""
    place = np.clip((plane.astype(np.float64) * LEVELS).astype(int), 0, LEVELS)
    # How many pixels of each kind lie at a threshold or above it.
    hits, others = (
        np.bincount(place[where], minlength=LEVELS + 1)[::-1].cumsum()[::-1]
        for where in (true, ~true)
    )
    positive, negative = hits[0], others[0]
    found = np.stack([hits, positive - hits])
    union = positive + np.stack([others, negative - others])
    return np.divide(found, union, out=np.ones(found.shape), where=union > 0)
