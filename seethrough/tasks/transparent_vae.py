"""Training of AutoencoderKL and TransparentVAE together."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.inference.grid import picture_grid
from seethrough.models import TransparentVAE
from seethrough.models.checkpoints import load_model, vae_folder
from seethrough.models.new_autoencoder import new_autoencoder
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks.datasets import held_out, layer_dataset
from seethrough.tasks.latents import load_transparent_vae, network_input
from seethrough.tasks.layer_pictures import LayerPictures
from seethrough.tasks.noise import normal
from seethrough.tasks.task import Batch, Loss, ParameterGroup
from seethrough.tasks.transparent_vae_losses import reconstruction_terms, total, weighted

SCALE_PICTURES = 256
"""Layers, with their pages, whose latents give the scaling factor."""

KINDS = ("layer", "page")

PICTURE_ROWS = 8

OFFSET_ENCODER = "transparent_vae.encoder."
PIXEL_DECODER = "transparent_vae.decoder."
VAE_DECODER = ("vae.decoder.", "vae.post_quant_conv.")
LEARNT: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "decoders": (*VAE_DECODER, PIXEL_DECODER),
    "pixel_decoder": (PIXEL_DECODER,),
    "vae_decoder": VAE_DECODER,
    "transparent_vae": (OFFSET_ENCODER, PIXEL_DECODER),
}
"""How the names of the parameters begin that are trained, by `model.learn`."""


class Autoencoders(nn.Module):
    """Both networks, in one forward pass."""

    def __init__(self, vae: AutoencoderKL, transparent_vae: TransparentVAE) -> None:
        super().__init__()
        self.vae = vae
        self.transparent_vae = transparent_vae

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of both networks' blocks in the backward pass."""
        self.vae.enable_gradient_checkpointing()
        self.transparent_vae.enable_gradient_checkpointing()

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


class TransparentVaeTask(LayerPictures[TransparentVaeTrain]):
    """Reconstruction of alpha and colour, of the base picture, and a small KL term."""

    def build(self) -> nn.Module:
        vae, transparent_vae = self.stage.model.vae, self.stage.model.transparent_vae
        if vae is None or transparent_vae is None:
            return self._new()
        return (
            Autoencoders(
                load_model(AutoencoderKL, vae_folder(self.context.path(vae)), torch.float32),
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
        learnt = LEARNT[self.stage.model.learn]
        frozen = () if self.uses_offset() else OFFSET_ENCODER
        chosen = [
            parameter
            for name, parameter in model.named_parameters()
            if name.startswith(learnt) and not name.startswith(frozen)
        ]
        return [ParameterGroup("all", chosen, lr)]

    def uses_offset(self) -> bool:
        """Whether a term of the loss depends on the offset."""
        return self.stage.loss.identity > 0

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        argb = network_input(batch["argb"])
        weights = self.stage.loss
        noise = self._noise(batch["draw"], argb)
        out: dict[str, Tensor] = model(argb, noise, weights.identity > 0)
        found = {key: value.float() for key, value in out.items()}
        terms = weighted(reconstruction_terms(found, argb), weights)
        return Loss(total(terms, weights), {name: term.detach() for name, term in terms.items()})

    def _noise(self, draws: list[Draw], argb: Tensor) -> Tensor:
        """Standard normal numbers of the latents' shape, to sample the posterior."""
        scale = 2 ** (len(self.stage.model.vae_channels) - 1)
        height, width = argb.shape[-2] // scale, argb.shape[-1] // scale
        shape = (self.stage.model.latent_channels, height, width)
        return normal(draws, "posterior", shape, argb.device)

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of a true layer and its reconstruction."""
        assert isinstance(model, Autoencoders)
        shown: list[Tensor] = []
        for item in self.items(self.layers, PICTURE_ROWS, "pictures"):
            layer = self._input(item["layer"])
            shown += [layer[0, [1, 2, 3, 0]].cpu(), self._decode(model, layer)[0].cpu()]
        return {"reconstructions": picture_grid(shown, columns=2)}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors of reconstructed held-out layers, as `measured` names them."""
        data = held_out(self.stage.data)
        if data is None:
            return {}
        assert isinstance(model, Autoencoders)
        found: dict[str, list[float]] = {}
        dataset = layer_dataset(data, self.context)
        for item in self.items(dataset, SCALE_PICTURES, "validation"):
            for name, value in self.measured(model, item).items():
                found.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def measured(self, model: Autoencoders, item: Batch) -> dict[str, float]:
        """Measures of one item's layer; what can't be told of it is left out."""
        layer = self._input(item["layer"])
        return alpha_errors(layer, self._decode(model, layer))

    def _decode(self, model: Autoencoders, argb: Tensor) -> Tensor:
        latents = model.transparent_vae.encode(model.vae, argb)
        return model.transparent_vae.decode(model.vae, latents)

    def _input(self, picture: Tensor) -> Tensor:
        """A picture of the dataset as the networks take it: (1, 4, H, W)."""
        return network_input(picture[None].to(self.context.device))

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        """Both networks; a new one's scaling factor gives latents the deviation asked for."""
        assert isinstance(model, Autoencoders)
        if self.stage.model.vae is None:
            self._scale(model)
        model.vae.save_pretrained(directory / "vae")
        model.transparent_vae.save_pretrained(directory / "transparent_vae")
        return {"vae": directory / "vae", "transparent_vae": directory / "transparent_vae"}

    def _scale(self, model: Autoencoders) -> None:
        items = self.items(self.layers, SCALE_PICTURES, "scale")
        pictures = (item[kind] for item in items for kind in KINDS)
        with torch.no_grad():
            means = [
                model.transparent_vae.posterior(model.vae, self._input(picture))[0].cpu()
                for picture in pictures
            ]
        deviation = float(torch.cat(means).std())
        model.vae.register_to_config(scaling_factor=self.stage.model.scaled_std / deviation)


def alpha_errors(argb: Tensor, rgba: Tensor) -> dict[str, float]:
    """Mean absolute error of a decoded layer's alpha, and its IoU at 0.5, which no empty picture
    has, of a layer (1, 4, H, W) ARGB and what was decoded, RGBA."""
    true_alpha, alpha = argb[0, 0], rgba[0, 3]
    errors = {"alpha_mae": float((alpha - true_alpha).abs().mean())}
    truth = true_alpha > 0.5
    union = (truth | (alpha > 0.5)).sum()
    if union:
        errors["alpha_iou"] = float((truth & (alpha > 0.5)).sum() / union)
    return errors
