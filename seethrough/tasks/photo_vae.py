"""Training of an autoencoder of photos and masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.data.class_colours import paint
from seethrough.data.draws import Draw
from seethrough.models.new_autoencoder import new_autoencoder
from seethrough.recipes.photo_vae import PhotoVaeTrain
from seethrough.tasks.noise import normal
from seethrough.tasks.photos import PhotoTask
from seethrough.tasks.task import Batch, Loss

SCALE_SAMPLES = 256
"""Photos, with their masks, whose latents give shift and scaling factor."""


class Autoencoder(nn.Module):
    """Encodes, samples and decodes in one forward pass."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, 3, T, T) in [-1, 1] and noise (N, C, h, w) to the decoded pictures, and
        the posterior's mean and standard deviation."""
        encoded: Any = self.vae.encode(pictures, return_dict=False)  # pyright: ignore[reportArgumentType]
        mean, std = encoded[0].mean, encoded[0].std
        decoded: Any = self.vae.decode(mean + std * noise, return_dict=False)
        return decoded[0], mean, std


class PhotoVae(PhotoTask[PhotoVaeTrain]):
    """Reconstruction of photos and of masks alike, and a small KL term."""

    def build(self) -> Autoencoder:
        model = self.stage.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            vae = new_autoencoder(
                model.channels,
                layers=model.layers,
                norm_groups=model.norm_groups,
                latent_channels=model.latent_channels,
                side=self.stage.data.target_sizes[0],
                initial_log_variance=model.initial_log_variance,
                quant_conv=False,
            )
        return Autoencoder(vae)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        pictures = self._pictures(batch["photo"], batch["mask"])
        draws: list[Draw] = batch["draw"]
        factor = 2 ** (len(self.stage.model.channels) - 1)
        side = pictures.shape[-1] // factor
        shape = (self.stage.model.latent_channels, side, side)
        noise = torch.cat(
            [normal(draws, name, shape, pictures.device) for name in ("photo", "mask")]
        )
        decoded, mean, std = (part.float() for part in model(pictures, noise))
        errors = decoded - pictures
        divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log())
        terms = {
            "l1": errors.abs().mean((1, 2, 3)).sum() / 2,
            "mse": (errors**2).mean((1, 2, 3)).sum() / 2,
            "kl": divergence.mean((1, 2, 3)).sum() / 2,
        }
        total = terms["l1"] + terms["mse"] + self.stage.model.kl * terms["kl"]
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def _pictures(self, photos: Tensor, masks: Tensor) -> Tensor:
        """Photos (B, 3, T, T) uint8, and masks (B, T, T) painted, in [-1, 1]: (2B, 3, T, T)."""
        return 2 * torch.cat([photos.float() / 255, paint(masks, self.colours)]) - 1

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        """The autoencoder; scaled latents have a mean of 0 and the deviation asked for."""
        assert isinstance(model, Autoencoder)
        with torch.no_grad():
            latents = torch.cat([latents.flatten() for latents in self._latents(model.vae)])
        model.vae.register_to_config(
            shift_factor=float(latents.mean()),
            scaling_factor=self.stage.model.scaled_std / float(latents.std()),
        )
        model.vae.save_pretrained(directory / "vae")
        return {"vae": directory / "vae"}

    def _latents(self, vae: AutoencoderKL) -> Iterator[Tensor]:
        device = next(vae.parameters()).device
        for row in range(min(SCALE_SAMPLES, len(self.photos))):
            item = self.photos[Draw(seed=0, stage="scale", step=0, index=row, sample=row)]
            pictures: Any = self._pictures(item["photo"][None], item["mask"][None]).to(device)
            encoded: Any = vae.encode(pictures, return_dict=False)
            yield encoded[0].mean.cpu()
