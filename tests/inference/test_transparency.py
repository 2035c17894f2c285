"""Masks of photos: against the published steps by hand, and at every size."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seethrough.data.class_colours import nearest_class, palette
from seethrough.errors import InputError
from seethrough.inference.transparency import (
    MaskOptions,
    Transparency,
    decode_masks,
    fit_mask,
    load_transparency,
    predict_masks,
    soft_masks,
)
from seethrough.models.empty_prompt_sd3 import PromptEmbeddings
from tests.inference.small_sd3 import SIDE, small_prompt, write_small_transparency

OPTIONS = MaskOptions(resolution=SIDE)

ROUNDING: Any = {"atol": 1e-4, "rtol": 0}
"""What float32 sums in another order may differ by."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_transparency(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def models(folder: Path) -> Transparency:
    torch.set_num_threads(1)
    return load(folder)


def load(folder: Path, prompt: PromptEmbeddings | None = None) -> Transparency:
    return load_transparency(
        folder / "transformer", folder / "vae", prompt or small_prompt(), dtype=torch.float32
    )


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


@torch.no_grad()
def by_hand(folder: Path, square: np.ndarray) -> Tensor:
    """The published inference, with diffusers' own loaders and no modulation folded."""
    transformer: Any = SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    vae: Any = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    latents = (vae.encode(pixels).latent_dist.mode() - 0.0609) * 1.5305
    prompt = small_prompt()
    predicted = transformer(
        hidden_states=latents,
        timestep=torch.ones(1) * 1000.0,
        encoder_hidden_states=prompt.embeds,
        pooled_projections=prompt.pooled,
    ).sample
    decoded = vae.decode(predicted / 1.5305 + 0.0609).sample
    return (decoded / 2 + 0.5).clamp(0, 1)


def test_a_square_photo_is_treated_as_published(folder: Path, models: Transparency) -> None:
    square = photo(SIDE, SIDE)
    expected = by_hand(folder, square)
    torch.testing.assert_close(decode_masks(models, [square], OPTIONS), expected, **ROUNDING)
    (soft,) = predict_masks(models, [square], OPTIONS)
    np.testing.assert_allclose(soft, expected[0].mean(0).numpy(), atol=1e-4)
    assert 0.01 < (soft > 0.5).mean() < 0.99  # or no test would see a threshold


def test_photos_of_all_sizes_go_together_and_each_has_its_own_mask(models: Transparency) -> None:
    photos = [photo(70, 90), photo(20, 200, seed=1), photo(1, 1, seed=2)]
    together = predict_masks(models, photos, OPTIONS)
    for picture, mask in zip(photos, together, strict=True):
        assert mask.shape == picture.shape[:2] and mask.dtype == np.float32
        assert 0 <= mask.min() <= mask.max() <= 1
        (alone,) = predict_masks(models, [picture], OPTIONS)
        np.testing.assert_allclose(mask, alone, atol=1e-4)


def test_drawn_latents_follow_from_seed_and_photo(models: Transparency) -> None:
    def masks(seed: int, *photos: np.ndarray) -> Tensor:
        drawn = MaskOptions(resolution=SIDE, posterior="sample", seed=seed)
        return decode_masks(models, photos, drawn)

    one, other = photo(40, 50), photo(50, 40, seed=1)
    assert torch.equal(masks(1, one), masks(1, one))
    torch.testing.assert_close(masks(1, other, one)[1:], masks(1, one), **ROUNDING)
    assert not torch.equal(masks(1, one), masks(2, one))
    assert not torch.equal(masks(1, one), decode_masks(models, [one], OPTIONS))


@pytest.mark.parametrize(("resolution", "near"), [(0, 16), (8, 16), (40, 32), (70, 64), (208, 192)])
def test_a_side_that_the_network_can_t_see_is_named(
    resolution: int, near: int, models: Transparency
) -> None:
    with pytest.raises(InputError, match=f"resolution={resolution} .* 16 to 192.*: take {near}"):
        decode_masks(models, [photo(9, 9)], MaskOptions(resolution=resolution))


def test_networks_that_don_t_fit_are_named(folder: Path, tmp_path: Path) -> None:
    embeds, pooled = small_prompt()
    with pytest.raises(InputError, match=r"joint_attention_dim is 32, .* has 24"):
        load(folder, PromptEmbeddings(embeds[..., :24], pooled))
    with pytest.raises(InputError, match=r"pooled_projection_dim is 16, .* has 8"):
        load(folder, PromptEmbeddings(embeds, pooled[:, :8]))
    # The older way's transformer sees noisy latents of the mask too.
    config: Any = SD3Transformer2DModel.load_config(folder / "transformer")
    wider: Any = SD3Transformer2DModel.from_config({**config, "in_channels": 32})
    wider.save_pretrained(tmp_path / "transformer")
    with pytest.raises(InputError, match=r"in_channels is 32, .* has 16, for the photo's latents"):
        load_transparency(tmp_path / "transformer", folder / "vae", small_prompt())


def test_bfloat16_changes_a_mask_by_rounding(folder: Path, models: Transparency) -> None:
    half = load_transparency(folder / "transformer", folder / "vae", small_prompt())
    exact = decode_masks(models, [photo(64, 64)], OPTIONS)
    rounded = decode_masks(half, [photo(64, 64)], OPTIONS)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.02


@given(st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_colours_are_above_a_half_where_a_class_is_nearest(classes: int, seed: int) -> None:
    pictures = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    soft = soft_masks(pictures, classes)
    assert ((soft > 0.5) == (nearest_class(pictures, palette(classes)) > 0)).all()
    exact = palette(classes)[None].permute(0, 2, 1)[..., None]
    assert soft_masks(exact, classes).flatten().tolist() == [0.0] + [1.0] * (classes - 1)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_a_mask_keeps_its_range_and_a_flat_one_its_value(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random((16, 16), np.float32)
    fitted = fit_mask(mask, size)
    assert fitted.shape == size and mask.min() - 1e-6 <= fitted.min() <= fitted.max() <= 1
    np.testing.assert_allclose(fit_mask(np.full((16, 16), 0.3, np.float32), size), 0.3, rtol=1e-6)
