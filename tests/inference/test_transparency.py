"""Masks of photos: against the published steps by hand, and at every size."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
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
from seethrough.models.empty_prompt_sd3 import PromptEmbeddings, read_prompt
from seethrough.models.sd3 import denoise, load_transformer, predict
from tests.tasks.small_sd3 import SIDE, SmallSD3, write_small_sd3

OPTIONS = MaskOptions(resolution=SIDE)

ROUNDING: Any = {"atol": 1e-4, "rtol": 0}
"""What float32 sums in another order may differ by."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallSD3:
    return write_small_sd3(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def models(small: SmallSD3) -> Transparency:
    torch.set_num_threads(1)
    return load(small, read_prompt(small.prompt))


def load(small: SmallSD3, prompt: PromptEmbeddings) -> Transparency:
    return load_transparency(
        small.base / "transformer", small.base / "vae", prompt, dtype=torch.float32
    )


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


@torch.no_grad()
def by_hand(small: SmallSD3, square: np.ndarray) -> Tensor:
    """The published inference, with diffusers' own loaders and no modulation folded."""
    transformer: Any = SD3Transformer2DModel.from_pretrained(small.base, subfolder="transformer")
    vae: Any = AutoencoderKL.from_pretrained(small.base, subfolder="vae")
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    latents = (vae.encode(pixels).latent_dist.mode() - 0.0609) * 1.5305
    prompt = read_prompt(small.prompt)
    predicted = transformer(
        hidden_states=latents,
        timestep=torch.ones(1) * 1000.0,
        encoder_hidden_states=prompt.embeds,
        pooled_projections=prompt.pooled,
    ).sample
    decoded = vae.decode(predicted / 1.5305 + 0.0609).sample
    return (decoded / 2 + 0.5).clamp(0, 1)


def test_a_square_photo_is_treated_as_published(small: SmallSD3, models: Transparency) -> None:
    square = photo(SIDE, SIDE)
    expected = by_hand(small, square)
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


@pytest.mark.parametrize(("resolution", "near"), [(0, 16), (8, 16), (40, 32), (70, 64), (528, 512)])
def test_a_side_that_the_network_can_t_see_is_named(
    resolution: int, near: int, models: Transparency
) -> None:
    with pytest.raises(InputError, match=f"resolution={resolution} .* 16 to 512.*: take {near}"):
        decode_masks(models, [photo(9, 9)], MaskOptions(resolution=resolution))


def test_networks_that_don_t_fit_are_named(small: SmallSD3, tmp_path: Path) -> None:
    embeds, pooled = prompt = read_prompt(small.prompt)
    with pytest.raises(InputError, match=r"joint_attention_dim is 40, .* has 24"):
        load(small, PromptEmbeddings(embeds[..., :24], pooled))
    with pytest.raises(InputError, match=r"pooled_projection_dim is 32, .* has 8"):
        load(small, PromptEmbeddings(embeds, pooled[:, :8]))
    # That of diffusion sees noisy latents of the mask too.
    with pytest.raises(InputError, match=r"in_channels is 16, .* has 32, for the latents of photo"):
        load_transparency(small.base / "transformer", small.base / "vae", prompt, shift=3.0)
    folder = write_denoiser(small, tmp_path / "transformer")
    with pytest.raises(InputError, match=r"in_channels is 32, .* has 16, for the photo's latents"):
        load_transparency(folder, small.base / "vae", prompt)


def write_denoiser(small: SmallSD3, folder: Path) -> Path:
    """Write a transformer of diffusion that heeds the photo."""
    transformer = load_transformer(small.base, in_channels=32)
    with torch.no_grad():
        weight: Any = transformer.pos_embed.proj.weight
        weight[:, :16] = weight[:, 16:].flip(1)
    transformer.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_diffusion_goes_from_noise_to_the_mask(small: SmallSD3, tmp_path: Path) -> None:
    """By as many steps as asked for, as diffusers' scheduler takes them."""
    folder, prompt = write_denoiser(small, tmp_path / "transformer"), read_prompt(small.prompt)
    models = load_transparency(folder, small.base / "vae", prompt, dtype=torch.float32, shift=3.0)
    options = MaskOptions(resolution=SIDE, steps=5)
    one, other = photo(SIDE, SIDE), photo(SIDE, SIDE, seed=1)
    found = decode_masks(models, [one, other], options)
    torch.testing.assert_close(decode_masks(models, [other], options), found[1:], **ROUNDING)
    otherwise = decode_masks(models, [one], MaskOptions(resolution=SIDE, steps=5, seed=1))
    assert not torch.allclose(otherwise, found[:1], **ROUNDING)

    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 5, 5))
    photos = torch.randn(1, 16, 4, 4)
    latents = noise = torch.randn(1, 16, 4, 4)
    for timestep in scheduler.timesteps:
        velocity = predict(
            models.transformer, torch.cat([photos, latents], 1), timestep[None], *prompt
        )
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    ours = denoise(models.transformer, photos, noise, *prompt, steps=5, shift=3.0)
    torch.testing.assert_close(ours, latents, **ROUNDING)


def test_bfloat16_changes_a_mask_by_rounding(small: SmallSD3, models: Transparency) -> None:
    half = load_transparency(
        small.base / "transformer", small.base / "vae", read_prompt(small.prompt)
    )
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
