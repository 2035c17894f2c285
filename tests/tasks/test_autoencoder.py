"""Autoencoders from new weights: what they see, their loss, and how latents come out scaled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seethrough.data.depth import visible_colour
from seethrough.recipe import evolve
from seethrough.recipes.autoencoder import LayerVaeTrain
from seethrough.tasks.autoencoder import Autoencoder, LayerVae
from tests.tasks.small import SIDE, Small, context, draw, small_data


def make(small: Small, folder: Path, **data: Any) -> LayerVae:
    default = LayerVaeTrain()
    stage = evolve(
        default,
        model=evolve(
            default.model,
            channels=(4, 8, 8),
            layers=1,
            norm_groups=2,
            latent_channels=3,
            kl=0.5,
            scaled_std=0.7,
        ),
        data=evolve(small_data(default.data, small), **data),
    )
    return LayerVae(stage, context(stage, folder))


def batch(task: LayerVae, count: int) -> Any:
    dataset: Any = task.dataset()
    return task.collate([dataset[draw(i, sample=i % 2)] for i in range(count)])


def test_it_sees_layers_over_gray_and_silhouettes_as_depths(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path, page_probability=0.0, silhouette_probability=0.0)
    data = batch(task, 4)
    shown = task.shown(data)
    assert torch.equal(shown, visible_colour(data["argb"], "gray"))
    transparent = (data["argb"][:, :1] == 0).expand_as(shown)
    assert transparent.any() and (shown[transparent] == 0).all()
    always = make(small, tmp_path, page_probability=0.0, silhouette_probability=1.0)
    grays = task.shown(batch(always, 4))
    assert (grays[:, 0] == grays[:, 2]).all() and not (grays == 0).all()


def test_the_loss_is_errors_of_pictures_and_the_divergence(small: Small, tmp_path: Path) -> None:
    """By the formulas, from the network's outputs."""
    task = make(small, tmp_path)
    model = task.build()
    data = batch(task, 3)
    kept: list[Any] = []
    model.register_forward_hook(lambda _, given, out: kept.append((given, out)))
    loss = task.loss(model, data)
    ((pictures, noise), (decoded, mean, std)) = kept[0]
    assert noise.shape == mean.shape == (3, 3, SIDE // 4, SIDE // 4)
    errors = decoded - pictures
    divergence = (mean**2 + std**2 - 1 - (std**2).log()) / 2
    expected = errors.abs().mean() + (errors**2).mean() + 0.5 * divergence.mean()
    assert float(loss.total.detach()) == pytest.approx(3 * float(expected.detach()), rel=1e-5)
    assert set(loss.terms) == {"l1", "mse", "kl"}


def test_scaled_latents_have_the_deviation_asked_for(small: Small, tmp_path: Path) -> None:
    task = make(small, tmp_path)
    model = task.build()
    folder = task.export(model, tmp_path)["vae"]
    vae: Any = AutoencoderKL.from_pretrained(folder)
    assert vae.config.latent_channels == 3 and vae.config.shift_factor is None
    assert vae.config.use_quant_conv
    latents: list[Tensor] = []
    with torch.no_grad():
        for data in task.scaled_by():
            latents.append(vae.encode(task.shown(data)).latent_dist.mean.flatten())
    deviation = float(torch.cat(latents).std()) * vae.config.scaling_factor
    assert deviation == pytest.approx(0.7, rel=1e-4)


def test_equal_seeds_make_equal_weights(small: Small, tmp_path: Path) -> None:
    one, other = (make(small, tmp_path).build() for _ in range(2))
    assert isinstance(one, Autoencoder)
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)
