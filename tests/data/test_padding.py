"""Colour bleeding: parity with the published fills, and what ours promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.padding import bleed, bleed_as_published, bleed_batch


def parity_image() -> np.ndarray:
    image = np.zeros((16, 16, 4), np.uint8)
    image[4:9, 5:12] = (200, 100, 50, 255)
    image[9, 5:12] = (0, 0, 255, 128)
    return image


def argb(*images: np.ndarray) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(images)[..., [3, 0, 1, 2]])
    return stacked.permute(0, 3, 1, 2).float() / 255


def test_published_numpy_version():
    """Number 18 of the parity tests; at (9, 6) it weighs the pixel's own colour twice."""
    colour = bleed_as_published(parity_image())
    assert colour.shape == (16, 16, 3) and colour.dtype == np.float32
    expected = {
        (0, 0): (0.723848, 0.361924, 0.258056),
        (9, 6): (0.115222, 0.057611, 0.881898),
        (15, 15): (0.698991, 0.349496, 0.283534),
        (6, 6): (0.784314, 0.392157, 0.196078),
    }
    assert colour.mean((0, 1)) == pytest.approx((0.697760, 0.348880, 0.284797), abs=1e-4)
    for place, value in expected.items():
        assert colour[place] == pytest.approx(value, abs=1e-4)


def test_published_torch_version():
    """Number 19 of the parity tests."""
    filled = bleed_batch(argb(parity_image()), published=True)[0]
    expected = {
        (0, 0): (0, 0.722912, 0.361456, 0.259015),
        (9, 6): (0.501961, 0.227234, 0.113617, 0.767085),
        (15, 15): (0, 0.710539, 0.355270, 0.271697),
    }
    mean = (0.150444, 0.707366, 0.353683, 0.274950)
    assert filled.mean((1, 2)).tolist() == pytest.approx(mean, abs=1e-4)
    for (y, x), value in expected.items():
        assert filled[:, y, x].tolist() == pytest.approx(value, abs=1e-4)


def test_nothing_stays_nothing():
    """Number 20 of the parity tests."""
    empty = np.zeros((7, 9, 4), np.uint8)
    assert not bleed(empty).any()
    assert not bleed_as_published(empty).any()
    for published in (False, True):
        assert not bleed_batch(argb(empty), published=published).any()


def test_layers_without_work_are_not_touched():
    opaque = np.full((5, 5, 4), 255, np.uint8)
    empty = np.zeros((5, 5, 4), np.uint8)
    assert bleed(opaque) is opaque
    assert bleed(empty) is empty


def random_layer(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layer = rng.integers(0, 256, (height, width, 4), np.uint8)
    layer[..., 3] *= rng.random((height, width)) < 0.3
    layer[layer[..., 3] == 0] = 0
    return layer


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40))
def test_what_is_seen_keeps_its_colour_and_alpha_and_the_rest_gets_some(seed, height, width):
    """The published versions change the colour of half-transparent pixels; ours don't."""
    layer = random_layer(seed, height, width)
    before = layer.copy()
    filled = bleed(layer)
    assert np.array_equal(layer, before)
    assert np.array_equal(filled[..., 3], layer[..., 3])
    seen = layer[..., 3] > 0
    assert np.array_equal(filled[seen], layer[seen])
    if seen.any():
        low, high = layer[seen][:, :3].min(0), layer[seen][:, :3].max(0)
        assert (filled[~seen][:, :3] >= low.astype(int) - 1).all()
        assert (filled[~seen][:, :3] <= high.astype(int) + 1).all()


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40))
def test_one_colour_fills_everything(seed: int, height: int, width: int):
    layer = random_layer(seed, height, width)
    layer[0, 0, 3] = 255
    colour = np.random.default_rng(seed).integers(0, 256, 3)
    layer[layer[..., 3] > 0, :3] = colour
    assert np.abs(bleed(layer)[..., :3].astype(int) - colour).max() <= 1
    batch = bleed_batch(argb(layer))[0, 1:].permute(1, 2, 0) * 255
    assert np.abs(batch.numpy() - colour).max() <= 1


def test_near_colours_win():
    layer = np.zeros((32, 64, 4), np.uint8)
    layer[10:20, 4:10] = (250, 0, 0, 255)
    layer[10:20, 54:60] = (0, 0, 250, 255)
    filled = bleed(layer).astype(int)
    assert (filled[12:18, :4, 0] > 170).all() and (filled[12:18, 60:, 2] > 170).all()
    batch = bleed_batch(argb(layer))[0]
    assert (batch[1, 12:18, :4] > 0.67).all() and (batch[3, 12:18, 60:] > 0.67).all()


def test_batch_keeps_alpha_and_colour_and_its_rows_apart():
    images = argb(random_layer(1, 24, 20), random_layer(2, 24, 20))
    filled = bleed_batch(images)
    alpha = images[:, :1]
    assert torch.equal(filled[:, :1], alpha)
    kept = (alpha > 0).expand(-1, 3, -1, -1)
    assert torch.equal(filled[:, 1:][kept], images[:, 1:][kept])
    assert torch.equal(filled[1:], bleed_batch(images[1:]))


def test_array_and_batch_fill_alike():
    layer = parity_image()
    ours = bleed(layer).astype(int)
    batch = (bleed_batch(argb(layer))[0] * 255).permute(1, 2, 0).numpy()[..., [1, 2, 3, 0]]
    assert np.abs(ours - batch).mean() < 1
