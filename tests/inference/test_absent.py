"""Frames that are nothing are found without decoding them, and faint layers are not among them."""

import attrs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seethrough.inference.absent import OPACITIES, SHARE, find_nothing
from seethrough.inference.decompose import DecomposeOptions, LayerDiff, decode_layers
from seethrough.models import TransparentVAE
from seethrough.models.transparent_vae import OFFSET_SCALE
from tests.inference.small import small_models

SIDE = 32
OPTIONS = DecomposeOptions(resolution=SIDE, decode_batch=2)
VISIBLE = 0.02


class Pooled(TransparentVAE):
    """Latents are the premultiplied colours' means over 8 x 8 pixels, so what they tell is known.

    Alpha is 1 where they are above `visible`; decoded frames are counted. Untrained networks show
    anything anywhere.
    """

    decoded = 0
    visible = VISIBLE

    def encode(
        self, vae: AutoencoderKL, argb: Tensor, noise: Tensor | None = None,
        use_offset: bool = False,
    ) -> Tensor:  # fmt: skip
        del vae, noise
        alpha, rgb = argb[:, :1], argb[:, 1:]
        latents = F.avg_pool2d(torch.cat([(2 * rgb - 1) * alpha, 0 * alpha], dim=1), 8)
        return latents + self.offset(argb) if use_offset else latents

    def decode(
        self, vae: AutoencoderKL, latents: Tensor, mask: Tensor | None = None, passes: int = 1
    ) -> Tensor:
        del vae, passes
        self.decoded += len(latents)
        alpha = F.interpolate((latents.abs().amax(1, keepdim=True) > self.visible).float(), None, 8)
        if mask is not None:
            alpha = alpha * mask
        return alpha.expand(-1, 4, -1, -1)


@pytest.fixture
def models() -> LayerDiff:
    models = small_models()
    return attrs.evolve(models, trans_vae=Pooled(**models.trans_vae.config))


def square(width: int, alpha: float) -> Tensor:
    """ARGB with a white square in the corner."""
    argb = torch.ones(4, SIDE, SIDE)
    argb[0] = 0
    argb[0, :width, :width] = alpha
    return argb


def frames(models: LayerDiff, *pictures: Tensor) -> Tensor:
    return models.trans_vae.encode(models.vae, torch.stack(pictures))


NOTHING = square(0, 1)


def test_only_frames_that_hold_something_are_decoded(models: LayerDiff) -> None:
    trans_vae = models.trans_vae
    assert isinstance(trans_vae, Pooled)
    # One is faint, and one no larger than half a latent.
    layers = [NOTHING, square(12, 0.1), NOTHING, NOTHING, square(4, 1), NOTHING]
    latents = frames(models, *layers)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    latents = latents + 0.002 * noise
    every = decode_layers(models, latents, None, OPTIONS)
    assert trans_vae.decoded == 6
    skipping = attrs.evolve(OPTIONS, skip_absent=True)
    decode_layers(models, latents, None, skipping)  # measures what nothing is
    trans_vae.decoded = 0
    told: list[float] = []
    some = decode_layers(models, latents, None, skipping, lambda what, amount: told.append(amount))
    assert trans_vae.decoded == 2
    assert sum(told) == pytest.approx(1)
    # Nothing of a part is lost, and what is skipped is transparent everywhere.
    assert np.array_equal(every[[1, 4]], some[[1, 4]]) and every[1].any()
    assert not some[[0, 2, 3, 5]].any()


def test_masks_stay_with_their_frames(models: LayerDiff) -> None:
    latents = frames(models, NOTHING, *[square(20, 1)] * 2, NOTHING, square(20, 1), NOTHING)
    masks = torch.stack([torch.full((1, SIDE, SIDE), value) for value in (1.0, 0.2)])
    skipping = attrs.evolve(OPTIONS, skip_absent=True)
    layers = decode_layers(models, latents, masks, skipping)
    assert layers[..., 3].reshape(6, -1).max(axis=1).tolist() == [0, 255, 255, 0, 51, 0]


def test_the_distance_is_half_of_the_nearest_dot_s_that_shows(models: LayerDiff) -> None:
    nothing = find_nothing(models.vae, models.trans_vae, SIDE)
    # A dot of 4 x 4 pixels lies on four latents, a sixteenth of each: alone opaque ones show.
    assert nothing.radius == (pytest.approx(SHARE / 16),)
    kinds = [NOTHING, square(2, 0.4), square(2, 0.6), square(8, 0.03), square(8, 0.04)]
    assert nothing.holds(frames(models, *kinds)) == [True, True, False, True, False]


def test_where_the_empty_picture_shows_something_every_dot_counts(models: LayerDiff) -> None:
    trans_vae = models.trans_vae
    assert isinstance(trans_vae, Pooled)
    trans_vae.visible = -1.0
    nothing = find_nothing(models.vae, trans_vae, SIDE)
    assert nothing.radius == (pytest.approx(SHARE / 16 * OPACITIES[0]),)
    specks = decode_layers(models, nothing.latents, None, OPTIONS)
    assert specks.any()
    skipping = attrs.evolve(OPTIONS, skip_absent=True)
    assert not decode_layers(models, nothing.latents, None, skipping).any()


def test_latents_with_the_transparency_offset_are_nothing_too(models: LayerDiff) -> None:
    last = models.trans_vae.encoder.model.blocks[-1]
    assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
    torch.nn.init.constant_(last.bias, 0.01 / OFFSET_SCALE)
    nothing = find_nothing(models.vae, models.trans_vae, SIDE)
    assert len(nothing.latents) == len(nothing.radius) == 2
    plain = frames(models, NOTHING)
    assert nothing.holds(torch.cat([plain, plain + 0.01])) == [True, True]


def test_it_is_measured_once_for_a_size(models: LayerDiff) -> None:
    assert models.nothing(SIDE) is models.nothing(SIDE)
    assert models.nothing(64).latents.shape[-2:] == (8, 8)
