"""The baseline of transparency: it finds the feature that tells, and honestly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.metrics.glass_baseline import (
    FEATURES,
    LEVELS,
    Feature,
    ThresholdBaseline,
    feature_plane,
    tune,
)

BOX = np.zeros((32, 40), np.uint8)
BOX[6:20, 8:30] = 1


def photo(inside: tuple[int, int, int], outside: tuple[int, int, int], noise: int = 0):
    picture = np.where(BOX[..., None] > 0, inside, outside).astype(int)
    picture += np.random.default_rng(0).integers(-noise, noise + 1, (*BOX.shape, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def iou(found: np.ndarray, mask: np.ndarray) -> float:
    return float((found & (mask > 0)).sum() / max((found | (mask > 0)).sum(), 1))


@pytest.mark.parametrize(
    ("feature", "above", "inside", "outside"),
    [
        ("brightness", True, (180, 180, 180), (90, 90, 90)),
        ("brightness", False, (60, 60, 60), (120, 120, 120)),
        ("saturation", True, (160, 80, 0), (80, 80, 80)),
    ],
)
def test_what_tells_is_found(feature: Feature, above: bool, inside, outside):
    pair = photo(inside, outside), BOX
    baseline = tune([pair])
    assert (baseline.feature, baseline.above) == (feature, above)
    assert iou(baseline(pair[0]), BOX) == 1


def test_noise_wants_smoothing():
    pair = photo((140, 140, 140), (110, 110, 110), noise=60), BOX
    baseline = tune([pair])
    assert baseline.smoothing > 0
    assert iou(baseline(pair[0]), BOX) > 0.7


def test_contrast_tells_a_rough_ground_from_glass():
    rough = photo((120, 120, 120), (120, 120, 120), noise=90)
    rough[BOX > 0] = 120
    baseline = tune([(rough, BOX)])
    assert (baseline.feature, baseline.above) == ("contrast", False)
    assert iou(baseline(rough), BOX) > 0.7


def test_it_is_never_worse_than_taking_everything():
    random = np.random.default_rng(1)
    pairs = [(random.integers(0, 256, (16, 16, 3), np.uint8), BOX[:16, :16]) for _ in range(4)]
    baseline = tune(pairs)
    everything = np.mean([mask.mean() for _, mask in pairs])
    assert np.mean([iou(baseline(photo), mask) for photo, mask in pairs]) >= everything - 1e-12
    assert ThresholdBaseline("brightness", 0.0, 0.0, above=True)(pairs[0][0]).all()


@given(
    seed=st.integers(0, 10**6),
    feature=st.sampled_from(FEATURES),
    level=st.integers(0, LEVELS),
    above=st.booleans(),
)
def test_the_chosen_one_is_the_best(seed: int, feature: Feature, level: int, above: bool):
    random = np.random.default_rng(seed)
    pair = random.integers(0, 256, (8, 8, 3), np.uint8), random.integers(0, 2, (8, 8))
    other = ThresholdBaseline(feature, 0.04, level / LEVELS, above)
    assert iou(tune([pair])(pair[0]), pair[1]) >= iou(other(pair[0]), pair[1]) - 1e-12


def test_features_are_shares():
    flat = np.full((12, 12, 3), (200, 100, 0), np.uint8)
    assert feature_plane(flat, "brightness", 0.1) == pytest.approx(100 / 255, abs=1e-5)
    assert feature_plane(flat, "saturation", 0.0) == pytest.approx(1)
    assert feature_plane(flat, "contrast", 0.1) == pytest.approx(0, abs=1e-3)


def test_no_pair_is_an_error():
    with pytest.raises(ValueError, match="no pair"):
        tune([])
