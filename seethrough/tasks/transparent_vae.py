"""Training of AutoencoderKL and TransparentVAE together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset
from seethrough.inference.grid import picture_grid
from seethrough.models import TransparentVAE
from seethrough.models.checkpoints import load_model
from seethrough.models.new_autoencoder import new_autoencoder
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks.datasets import held_out, layer_dataset, readable
from seethrough.tasks.latents import load_transparent_vae, network_input
from seethrough.tasks.noise import normal
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext, Task

SCALE_PICTURES = 256
"""Layers, with their pages, whose latents give the scaling factor."""

KINDS = ("layer", "page")

PICTURE_ROWS = 8

OFFSET_ENCODER = ("transparent_vae.encoder.",)
ENCODERS = ("vae.encoder.", "vae.quant_conv.", *OFFSET_ENCODER)
"""How the names of parameters begin that latents depend on."""


class Autoencoders(nn.Module):
    """Both networks, in one forward pass."""

    def __init__(self, vae: AutoencoderKL, transparent_vae: TransparentVAE) -> None:
        super().__init__()
        self.vae = vae
        self.transparent_vae = transparent_vae

    def forward(self, argb: Tensor, noise: Tensor, with_offset: bool) -> dict[str, Tensor]:
        """Encode and decode (N, 4, H, W) ARGB in [0, 1].

        `noise` (N, C, h, w) samples the posterior. `with_offset` adds the picture decoded from
        the offset latents. Returns raw ARGB, the base picture in [-1, 1], mean, std and, with
        the offset, `offset_picture`.
        """
        mean, std = self.transparent_vae.posterior(self.vae, argb)
        latents = mean + std * noise
        picture = self._picture(latents)
        decoded = self.transparent_vae.decoder.model(picture * 0.5 + 0.5, latents)
        result = {"argb": decoded, "picture": picture, "mean": mean, "std": std}
        if with_offset:
            offset = self.transparent_vae.offset(argb)
            result["offset_picture"] = self._picture(mean + std * offset)
        return result

    def _picture(self, latents: Any) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


class TransparentVaeTask(Task[TransparentVaeTrain]):
    """Reconstruction of alpha and colour, of the base picture, and a small KL term."""

    def __init__(self, stage: TransparentVaeTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.layers = layer_dataset(stage.data, context)

    def build(self) -> nn.Module:
        vae, transparent_vae = self.stage.model.vae, self.stage.model.transparent_vae
        if vae is None or transparent_vae is None:
            return self._new()
        return (
            Autoencoders(
                load_model(AutoencoderKL, self.context.path(vae), torch.float32),
                load_transparent_vae(self.context.path(transparent_vae)),
            )
            .requires_grad_(True)
            .train()
        )

    def _new(self) -> Autoencoders:
        model = self.stage.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            vae = new_autoencoder(
                model.vae_channels,
                layers=model.vae_layers,
                norm_groups=model.vae_norm_groups,
                latent_channels=model.latent_channels,
                side=self.stage.data.target_size,
                initial_log_variance=model.initial_log_variance,
            )
            transparent_vae = TransparentVAE(
                encoder_channels=model.encoder_channels,
                block_out_channels=model.decoder_channels,
                layers_per_block=model.decoder_layers,
                latent_channels=model.latent_channels,
            )
        return Autoencoders(vae, transparent_vae)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """What `model.learn` says, but the offset encoder's only if a term reaches it."""
        frozen = () if self.stage.loss.identity > 0 else OFFSET_ENCODER
        if self.stage.model.learn == "decoders":
            frozen = ENCODERS
        chosen = [
            parameter for name, parameter in model.named_parameters() if not name.startswith(frozen)
        ]
        return [ParameterGroup("all", chosen, lr)]

    def dataset(self) -> LayerDiff2DDataset:
        return self.layers

    def sample_name(self, row: int) -> str:
        return str(self.layers.page_path(row))

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])

    def collate(self, items: list[Batch]) -> Batch:
        """One ARGB picture a sample, as the draw says."""
        draws: list[Draw] = [item["draw"] for item in items]
        return {"draw": draws, "argb": torch.stack([self._picture(item) for item in items])}

    def _picture(self, item: Batch) -> Tensor:
        """The page, or the layer: as it is, its silhouette, or nothing in its place."""
        draw, data = item["draw"], self.stage.data

        def chosen(stream: str, probability: float) -> bool:
            return draw.numpy(stream).random() < probability

        if chosen("page", data.page_probability):
            return item["page"]
        if chosen("empty", data.empty_probability):
            return torch.zeros_like(item["layer"])
        if chosen("silhouette", data.silhouette_probability):
            return silhouette(item["layer"], draw)
        return item["layer"]

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        argb = network_input(batch["argb"])
        weights = self.stage.loss
        scale = 2 ** (len(self.stage.model.vae_channels) - 1)
        height, width = argb.shape[-2] // scale, argb.shape[-1] // scale
        shape = (self.stage.model.latent_channels, height, width)
        noise = normal(batch["draw"], "posterior", shape, argb.device)
        out: dict[str, Tensor] = model(argb, noise, weights.identity > 0)
        terms = self._terms({key: value.float() for key, value in out.items()}, argb)
        total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def _terms(self, out: dict[str, Tensor], argb: Tensor) -> dict[str, Tensor]:
        """Sums over the batch of each loss term that has a weight."""
        alpha, rgb = argb[:, :1], argb[:, 1:]
        alpha_out, rgb_out = out["argb"][:, :1], out["argb"][:, 1:]
        base = (2 * rgb - 1) * alpha
        # Within [0, 1]: beyond it, overlap would be rewarded without bound.
        bounded = alpha_out.clamp(0, 1)
        overlap = (alpha * bounded).sum((1, 2, 3))
        areas = alpha.sum((1, 2, 3)) + bounded.sum((1, 2, 3))
        covered = alpha.mean((1, 2, 3)).clamp_min(1e-3)
        variance = out["std"] ** 2
        terms = {
            "alpha_l1": _mean(abs(alpha_out - alpha)),
            "alpha_mse": _mean((alpha_out - alpha) ** 2),
            "alpha_dice": 1 - (2 * overlap + 1) / (areas + 1),
            "color_l1": _mean(abs(rgb_out - rgb) * alpha) / covered,
            "color_mse": _mean((rgb_out - rgb) ** 2 * alpha) / covered,
            "base_l1": _mean(abs(out["picture"] - base)),
            "base_mse": _mean((out["picture"] - base) ** 2),
            "kl": 0.5 * _mean(out["mean"] ** 2 + variance - 1 - variance.log()),
        }
        if "offset_picture" in out:
            terms["identity"] = _mean((out["offset_picture"] - out["picture"].detach()) ** 2)
        return {
            name: term.sum() for name, term in terms.items() if getattr(self.stage.loss, name) > 0
        }

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of a true layer and its reconstruction."""
        assert isinstance(model, Autoencoders)
        shown: list[Tensor] = []
        for item in self._items(self.layers, PICTURE_ROWS, "pictures"):
            layer = self._input(item["layer"])
            shown += [layer[0, [1, 2, 3, 0]].cpu(), self._decode(model, layer)[0].cpu()]
        return {"reconstructions": picture_grid(shown, columns=2)}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors of reconstructed held-out layers: alpha's mean absolute error and IoU at 0.5."""
        data = held_out(self.stage.data)
        if data is None:
            return {}
        assert isinstance(model, Autoencoders)
        errors: list[float] = []
        ious: list[float] = []
        for item in self._items(layer_dataset(data, self.context), SCALE_PICTURES, "validation"):
            layer = self._input(item["layer"])
            true_alpha, alpha = layer[0, 0], self._decode(model, layer)[0, 3]
            errors.append(float((alpha - true_alpha).abs().mean()))
            truth = true_alpha > 0.5
            union = (truth | (alpha > 0.5)).sum()
            if union:
                ious.append(float((truth & (alpha > 0.5)).sum() / union))
        # No layer of empty pictures has an IoU.
        iou = {"alpha_iou": float(np.mean(ious))} if ious else {}
        return {"alpha_mae": float(np.mean(errors)), **iou}

    def _decode(self, model: Autoencoders, argb: Tensor) -> Tensor:
        latents = model.transparent_vae.encode(model.vae, argb)
        return model.transparent_vae.decode(model.vae, latents)

    def _input(self, picture: Tensor) -> Tensor:
        """A picture of the dataset as the networks take it: (1, 4, H, W)."""
        return network_input(picture[None].to(self.context.device))

    def _items(self, dataset: LayerDiff2DDataset, count: int, purpose: str) -> Iterator[Batch]:
        """Up to `count` items at fixed draws, at most four of each sample."""
        for index in range(min(count, 4 * len(dataset))):
            draw = Draw(seed=0, stage=purpose, step=0, index=index, sample=index % len(dataset))
            yield readable(dataset, draw, self.stage.data, self.context)

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        """Both networks; a new one's scaling factor gives latents the deviation asked for."""
        assert isinstance(model, Autoencoders)
        if self.stage.model.vae is None:
            self._scale(model)
        model.vae.save_pretrained(directory / "vae")
        model.transparent_vae.save_pretrained(directory / "transparent_vae")
        return {"vae": directory / "vae", "transparent_vae": directory / "transparent_vae"}

    def _scale(self, model: Autoencoders) -> None:
        items = self._items(self.layers, SCALE_PICTURES, "scale")
        pictures = (item[kind] for item in items for kind in KINDS)
        with torch.no_grad():
            means = [
                model.transparent_vae.posterior(model.vae, self._input(picture))[0].cpu()
                for picture in pictures
            ]
        deviation = float(torch.cat(means).std())
        model.vae.register_to_config(scaling_factor=self.stage.model.scaled_std / deviation)


def silhouette(layer: Tensor, draw: Draw) -> Tensor:
    """A layer, (4, H, W) uint8 ARGB, as an opaque picture: a gray of the draw's where it is.

    Around it is, equally often, the same gray, white, or another gray.
    """
    random = draw.numpy("gray")
    gray, other = random.integers(256, size=2).tolist()
    picture = torch.full_like(layer, 255)
    picture[1:] = (gray, 255, other)[int(random.integers(3))]
    picture[1:, layer[0] > 0] = gray
    return picture


def _mean(values: Tensor) -> Tensor:
    """Mean over all axes but the first, (N,)."""
    return values.flatten(1).mean(1)
