"""Training of autoencoders from new weights: of photos and masks, or of layers."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.data.class_colours import paint
from seethrough.data.depth import visible_colour
from seethrough.data.draws import Draw
from seethrough.models.new_autoencoder import new_autoencoder
from seethrough.recipes.autoencoder import LayerVaeTrain, PhotoVaeTrain
from seethrough.tasks.layer_pictures import LayerPictures
from seethrough.tasks.noise import normal
from seethrough.tasks.photos import PhotoTask
from seethrough.tasks.task import Batch, Loss, Task

SCALE_SAMPLES = 256
"""Samples whose latents give shift and scaling factor."""

StageT = TypeVar("StageT", PhotoVaeTrain, LayerVaeTrain)


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


class AutoencoderTask(Task[StageT], Generic[StageT]):
    """Reconstruction of all pictures of a sample, and a small KL term; an average over samples."""

    kinds: ClassVar[tuple[str, ...]]
    """The pictures that a sample gives."""

    shifted: ClassVar[bool]
    """Whether latents are shifted and not convolved, as in SD3, or the other way, as before it."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Of the pictures, in px."""

    @abstractmethod
    def shown(self, batch: Batch) -> Tensor:
        """The pictures of a batch in [-1, 1]: those of all samples of one kind after the other,
        (kinds * B, 3, T, T)."""

    @abstractmethod
    def scaled_by(self) -> Iterator[Batch]:
        """Batches of one, whose latents give shift and scaling factor."""

    def build(self) -> Autoencoder:
        model = self.stage.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            vae = new_autoencoder(
                model.channels,
                layers=model.layers,
                norm_groups=model.norm_groups,
                latent_channels=model.latent_channels,
                side=self.side,
                initial_log_variance=model.initial_log_variance,
                quant_conv=not self.shifted,
            )
        return Autoencoder(vae)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        pictures = self.shown(batch)
        draws: list[Draw] = batch["draw"]
        factor = 2 ** (len(self.stage.model.channels) - 1)
        side = pictures.shape[-1] // factor
        shape = (self.stage.model.latent_channels, side, side)
        noise = torch.cat([normal(draws, name, shape, pictures.device) for name in self.kinds])
        decoded, mean, std = (part.float() for part in model(pictures, noise))
        errors = decoded - pictures
        divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log())
        count = len(self.kinds)
        terms = {
            "l1": errors.abs().mean((1, 2, 3)).sum() / count,
            "mse": (errors**2).mean((1, 2, 3)).sum() / count,
            "kl": divergence.mean((1, 2, 3)).sum() / count,
        }
        total = terms["l1"] + terms["mse"] + self.stage.model.kl * terms["kl"]
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        """The autoencoder; scaled latents have the deviation asked for."""
        assert isinstance(model, Autoencoder)
        with torch.no_grad():
            latents = torch.cat([latents.flatten() for latents in self._latents(model.vae)])
        if self.shifted:
            model.vae.register_to_config(shift_factor=float(latents.mean()))
        scaling = self.stage.model.scaled_std / float(latents.std())
        model.vae.register_to_config(scaling_factor=scaling)
        model.vae.save_pretrained(directory / "vae")
        return {"vae": directory / "vae"}

    def _latents(self, vae: AutoencoderKL) -> Iterator[Tensor]:
        device = next(vae.parameters()).device
        for batch in self.scaled_by():
            pictures: Any = self.shown(batch).to(device)
            encoded: Any = vae.encode(pictures, return_dict=False)
            yield encoded[0].mean.cpu()


class PhotoVae(PhotoTask[PhotoVaeTrain], AutoencoderTask[PhotoVaeTrain]):
    """Of photos and of masks alike."""

    kinds = ("photo", "mask")
    shifted = True

    @property
    def side(self) -> int:
        return self.stage.data.target_sizes[0]

    def shown(self, batch: Batch) -> Tensor:
        """Photos (B, 3, T, T) uint8, and masks (B, T, T) painted."""
        photos: Tensor = batch["photo"]
        painted = paint(batch["mask"], self.colours)
        return 2 * torch.cat([photos.float() / 255, painted]) - 1

    def scaled_by(self) -> Iterator[Batch]:
        for row in range(min(SCALE_SAMPLES, len(self.photos))):
            item = self.photos[Draw(seed=0, stage="scale", step=0, index=row, sample=row)]
            yield {name: item[name][None] for name in self.kinds}


class LayerVae(LayerPictures[LayerVaeTrain], AutoencoderTask[LayerVaeTrain]):
    """Of layers and pages, transparent over mid-gray, and of silhouettes."""

    kinds = ("picture",)
    shifted = False

    @property
    def side(self) -> int:
        return self.stage.data.target_size

    def shown(self, batch: Batch) -> Tensor:
        """What `LayerPictures` chose, (B, 4, T, T) uint8 ARGB."""
        return visible_colour(batch["argb"], "gray")

    def scaled_by(self) -> Iterator[Batch]:
        for item in self.items(self.layers, SCALE_SAMPLES, "scale"):
            for kind in ("layer", "page"):
                yield {"argb": item[kind][None]}
