"""The published changes of photos: their rates, their strength, and that masks keep out of them."""

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.draws import Draw
from seethrough.data.photo_augmentation import (
    ColourChange,
    GaussianBlur,
    MotionBlur,
    Noise,
    PhotoChange,
    photo_change,
)

PUBLISHED = {"flip": 0.5, "colour": 0.5, "blur": 0.3, "noise": 0.3}
PHOTO = np.random.default_rng(3).integers(0, 256, (40, 52, 3), np.uint8)
MASK = np.random.default_rng(4).integers(0, 3, (40, 52), np.uint8)


def at(index: int) -> Draw:
    return Draw(seed=1, stage="train", step=0, index=index, sample=0)


def test_published_rates():
    """Number 9 of the parity tests."""
    count = 4000
    changes = [photo_change(at(index), **PUBLISHED) for index in range(count)]
    blurs = [change.blur for change in changes if change.blur is not None]
    unchanged = PhotoChange(False, None, None, None)
    for share, found in (
        (0.5, [change.flip for change in changes]),
        (0.5, [change.colour is not None for change in changes]),
        (0.3, [change.blur is not None for change in changes]),
        (0.3, [change.noise is not None for change in changes]),
        (0.1225, [change == unchanged for change in changes]),
        (0.5, [isinstance(blur, MotionBlur) for blur in blurs]),
    ):
        assert np.mean(found) == pytest.approx(share, abs=4 * (share / len(found)) ** 0.5)
    assert {blur.side for blur in blurs} == set(range(11, 32, 2))
    assert all(0.1 <= change.noise.std <= 0.3 for change in changes if change.noise)
    assert all(0.5 <= blur.sigma <= 3 for blur in blurs if isinstance(blur, GaussianBlur))


def test_colours_change_in_any_order_and_by_published_factors():
    colours = [photo_change(at(i), **{**PUBLISHED, "colour": 1.0}).colour for i in range(400)]
    found = [dict(colour.steps) for colour in colours if colour]
    for what in ("brightness", "contrast", "saturation"):
        factors = [one[what] for one in found]
        assert 0.8 <= min(factors) < 0.82 and 1.18 < max(factors) <= 1.2
    turns = [one["hue"] for one in found]
    assert -0.1 <= min(turns) < -0.09 and 0.09 < max(turns) <= 0.1
    assert len({tuple(what for what, _ in colour.steps) for colour in colours if colour}) == 24


@settings(max_examples=40)
@given(index=st.integers(0, 10**6))
def test_only_mirroring_touches_the_mask(index: int):
    change = photo_change(at(index), **{**PUBLISHED, "blur": 0.6, "noise": 0.6})
    photo, mask = change(PHOTO, MASK)
    assert (photo.shape, photo.dtype) == (PHOTO.shape, np.uint8)
    assert np.array_equal(mask, MASK[:, ::-1] if change.flip else MASK)
    assert np.array_equal(change(PHOTO, MASK)[0], photo)


def test_mirroring_alone_is_exact():
    photo, mask = PhotoChange(True, None, None, None)(PHOTO, MASK)
    assert np.array_equal(photo, PHOTO[:, ::-1]) and np.array_equal(mask, MASK[:, ::-1])


@pytest.mark.parametrize("what", ["brightness", "contrast", "saturation"])
def test_a_factor_of_1_changes_nothing(what: str):
    assert np.abs(ColourChange(((what, 1.0),))(PHOTO).astype(int) - PHOTO).max() <= 1


def test_what_the_colour_changes_do():
    photo = np.array([[[200, 100, 40], [60, 60, 60]]], np.uint8)
    assert ColourChange((("brightness", 1.2),))(photo)[0].tolist() == [[240, 120, 48], [72] * 3]
    grey = ColourChange((("saturation", 0.0),))(photo)[0]
    assert len(set(grey[0].tolist())) == 1 and grey[1].tolist() == [60, 60, 60]
    flat = ColourChange((("contrast", 0.0),))(photo)
    assert np.ptp(flat) == 0
    # A third of the circle takes red to green, and grey stays.
    turned = ColourChange((("hue", 1 / 3),))(np.array([[[255, 0, 0], [60, 60, 60]]], np.uint8))
    assert turned[0].tolist() == [[0, 255, 0], [60, 60, 60]]


def test_published_noise():
    """Number 10 of the parity tests: deviation 51, cut off at black and white, is 50.4."""
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = Noise(0.2, at(0))(grey).astype(float)
    assert noisy.std() == pytest.approx(50.4, abs=0.3)
    channels = noisy.reshape(-1, 3).T
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.03
    assert not np.array_equal(Noise(0.2, at(1))(grey), noisy)


@given(
    side=st.sampled_from(range(11, 32, 2)),
    angle=st.floats(0, 1),
    direction=st.floats(-1, 1),
    shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_motion_blurs_along_a_line(
    side: int, angle: float, direction: float, shift: tuple[float, float]
):
    kernel = MotionBlur(side, angle, direction, shift).kernel()
    assert kernel.shape == (side, side) and kernel.sum() == pytest.approx(1)
    assert np.unique(kernel).size == 2 and (kernel > 0).sum() <= side


def test_direction_takes_half_of_the_line():
    whole, ahead, behind = (MotionBlur(11, 0.0, d, (0, 0)).kernel()[5] > 0 for d in (0, 1, -1))
    assert whole.all()
    assert ahead.nonzero()[0].tolist() == list(range(5, 11))
    assert behind.nonzero()[0].tolist() == list(range(6))


def test_blurs_keep_flat_photos():
    flat = np.full((20, 30, 3), 77, np.uint8)
    for blur in (MotionBlur(31, 0.3, 0.5, (1, -1)), GaussianBlur(31, 3.0)):
        assert np.abs(blur(flat).astype(int) - 77).max() <= 1
        assert np.abs(blur(PHOTO).astype(int) - PHOTO).max() > 20


def test_a_draw_says_all():
    first, again = (photo_change(at(8), **PUBLISHED) for _ in range(2))
    assert first == again
    assert attrs.evolve(first, flip=not first.flip) != again
