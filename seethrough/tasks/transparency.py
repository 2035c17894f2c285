"""Transparency: the mask of what is transparent in a photo, by the transformer of SD3.5."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from PIL import Image
from torch import Tensor, nn

from seethrough.data.class_colours import nearest_class, paint
from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.inference.grid import picture_grid
from seethrough.metrics import mask_losses
from seethrough.metrics.segmentation import ImageScores, image_scores, scores_by_difficulty
from seethrough.models.checkpoints import load_model, open_base, read_config
from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.lora import add_updates, merged, save_updates, trained_updates
from seethrough.models.sd3 import (
    denoise,
    load_transformer,
    predict,
    shifted,
    transformer_folder,
)
from seethrough.recipes.transparency import TransparencyLoraTrain, TransparencyTrain
from seethrough.tasks.items import first_items
from seethrough.tasks.noise import normal
from seethrough.tasks.photos import PhotoTask, held_out_dataset
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

SHOWN = 4
"""Photos in a training picture."""


class Transparency(PhotoTask[TransparencyTrain]):
    """The latents of a mask from those of its photo; the autoencoder and the prompt are frozen.

    In one step the transformer sees the photo's latents alone. In diffusion it sees them in front
    of noisy latents of the mask, on the straight way between mask and noise, and gives the
    velocity, noise - mask.
    """

    def __init__(self, stage: TransparencyTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.objective = stage.objective
        vae = load_model(
            AutoencoderKL,
            open_base(context.path(stage.model.base)).require("vae"),
            DTYPES[stage.model.vae_precision],
        )
        self.vae = vae.requires_grad_(False).eval()
        self.latent_channels = int(vae.config["latent_channels"])
        self.shift = float(vae.config.get("shift_factor") or 0.0)
        self.scale = float(vae.config["scaling_factor"])
        self.embeds, self.pooled = (
            part.float() for part in read_prompt(context.path(stage.model.prompt))
        )

    def build(self) -> SD3Transformer2DModel:
        model = self.stage.model
        folder = transformer_folder(self.context.path(model.transformer or model.base))
        self._check_fit(folder, read_config(folder))
        return load_transformer(folder, torch.float32, self._in_channels())

    def _in_channels(self) -> int:
        return self.latent_channels * (2 if self.objective.method == "diffusion" else 1)

    def _check_fit(self, folder: Path, config: dict[str, Any]) -> None:
        for key, allowed in (
            ("in_channels", {self.latent_channels, self._in_channels()}),
            ("out_channels", {self.latent_channels}),
            ("joint_attention_dim", {self.embeds.shape[-1]}),
            ("pooled_projection_dim", {self.pooled.shape[-1]}),
        ):
            if config.get(key) not in allowed:
                raise InputError(
                    f"{folder}: this transformer has {key}={config.get(key)!r}, but with this "
                    f"autoencoder and prompt {' or '.join(map(str, sorted(allowed)))} is needed: "
                    "give those of one base"
                )

    def prepare(self) -> None:
        nn.Module.to(self.vae, self.context.device)
        self.embeds = self.embeds.to(self.context.device)
        self.pooled = self.pooled.to(self.context.device)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        draws: list[Draw] = batch["draw"]
        photos = self.encode(batch["photo"].float() / 255, draws, "photo")
        masks = self.encode(paint(batch["mask"], self.colours), draws, "mask")
        if self.objective.method == "diffusion":
            terms = {"latent_mse": self._denoising(model, photos, masks, draws)}
        else:
            timesteps = torch.full((len(draws),), self.objective.timestep, device=photos.device)
            predicted = predict(model, photos, timesteps, self.embeds, self.pooled).float()
            terms = {"latent_mse": _mean_square(predicted - masks)}
            if self.objective.decodes:
                terms |= self._decoded_terms(predicted, batch["mask"])
        weights = {name: getattr(self.objective, name) for name in terms}
        total = torch.stack([weights[name] * term.sum() for name, term in terms.items()]).sum()
        return Loss(total, {name: term.detach().sum() for name, term in terms.items()})

    def _decoded_terms(self, predicted: Tensor, masks: Tensor) -> dict[str, Tensor]:
        decoded = self.decode(predicted).mean(1)
        width = self.objective.boundary_width
        terms = {
            "bce": lambda: mask_losses.bce(decoded, masks),
            "dice": lambda: mask_losses.dice(decoded, masks),
            "boundary": lambda: mask_losses.boundary(decoded, masks, width),
        }
        return {name: term() for name, term in terms.items() if getattr(self.objective, name) > 0}

    def _denoising(
        self, model: nn.Module, photos: Tensor, masks: Tensor, draws: Sequence[Draw]
    ) -> Tensor:
        shares = noise_shares(draws, self.objective.logit_mean, self.objective.logit_std)
        sigmas = shifted(shares, self.objective.shift).to(photos.device)
        noise = normal(draws, "noise", masks.shape[1:], masks.device)
        at = sigmas[:, None, None, None]
        seen = torch.cat([photos, (1 - at) * masks + at * noise], dim=1)
        velocity = predict(model, seen, 1000 * sigmas, self.embeds, self.pooled).float()
        return _mean_square(velocity - (noise - masks))

    def encode(self, pictures: Tensor, draws: Sequence[Draw], name: str) -> Tensor:
        """Scaled latents (B, C, h, w) float32 of pictures (B, 3, T, T) in [0, 1].

        A draw of the posterior, by `draws`, or its mean, as the objective says.
        """
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            inputs: Any = (2 * pictures - 1).to(self.vae.dtype)
            posterior: Any = self.vae.encode(inputs, return_dict=False)[0]
            latents = posterior.mean.float()
            if self.objective.posterior == "sample":
                noise = normal(draws, f"{name} posterior", latents.shape[1:], latents.device)
                latents = latents + posterior.std.float() * noise
        return (latents - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, T, T) float32, about in [-1, 1], of scaled latents."""
        with torch.autocast(latents.device.type, enabled=False):
            unscaled: Any = (latents.float() / self.scale + self.shift).to(self.vae.dtype)
            return self.vae.decode(unscaled, return_dict=False)[0].float()

    def mask_latents(self, model: nn.Module, photos: Tensor, draws: Sequence[Draw]) -> Tensor:
        """What the model makes of photos' latents: those of their masks."""
        if self.objective.method == "one_step":
            timesteps = torch.full((len(photos),), self.objective.timestep, device=photos.device)
            return predict(model, photos, timesteps, self.embeds, self.pooled).float()
        noise = normal(draws, "noise", photos.shape[1:], photos.device)
        steps, shift = self.stage.sampler.steps, self.objective.shift
        return denoise(model, photos, noise, self.embeds, self.pooled, steps=steps, shift=shift)

    def soft_masks(self, model: nn.Module, photos: Tensor, draws: Sequence[Draw]) -> Tensor:
        """How transparent each pixel is, (B, T, T) in [0, 1], of photos (B, 3, T, T) uint8.

        With classes apart 1 or 0: the class of the nearest colour, or none.
        """
        latents = self.encode(photos.float() / 255, draws, "photo")
        pictures = (self.decode(self.mask_latents(model, latents, draws)) / 2 + 0.5).clamp(0, 1)
        if self.stage.data.classes == "apart":
            return (nearest_class(pictures, self.colours) > 0).float()
        return pictures.mean(1)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The measures per image of easy and hard held-out photos, and of all, as `mix`."""
        if self.stage.data.validation is None:
            return {}
        held_out = held_out_dataset(self.stage.data, self.context)
        scores = [
            (item["difficulty"], self._score(model, item))
            for item in first_items(held_out, "validation", self.stage.data, self.context)
        ]
        if not scores:
            return {}
        return {
            f"{difficulty}/{name}": value
            for difficulty, means in scores_by_difficulty(scores).items()
            for name, value in means.items()
        }

    def _score(self, model: nn.Module, item: Batch) -> ImageScores:
        photo = item["photo"][None].to(self.context.device)
        soft = self.soft_masks(model, photo, [item["draw"]])[0]
        return image_scores(soft, item["mask"].to(soft.device))

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of a photo as it is trained on, its mask, and the predicted one."""
        shown: list[Tensor] = []
        for item in first_items(self.photos, "pictures", self.stage.data, self.context, SHOWN):
            photo = item["photo"][None].to(self.context.device)
            soft = self.soft_masks(model, photo, [item["draw"]])[0].cpu()
            truth = paint(item["mask"][None], self.colours)[0]
            rgb = [item["photo"].float() / 255, truth, soft.expand(3, -1, -1)]
            shown += [torch.cat([part, torch.ones_like(part[:1])]) for part in rgb]
        return {"samples": picture_grid(shown, columns=3)} if shown else {}

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        assert isinstance(model, SD3Transformer2DModel)
        model.save_pretrained(directory / "transformer")
        return {"transformer": directory / "transformer"}


class TransparencyLora(Transparency):
    """The same with low-rank updates of the transformer's linear layers."""

    stage: TransparencyLoraTrain

    def build(self) -> SD3Transformer2DModel:
        lora = self.stage.lora
        return add_updates(
            super().build(),
            rank=lora.rank,
            alpha=lora.alpha,
            targets=lora.targets,
            seed=self.stage.seed,
        )

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        return [ParameterGroup("lora", trained_updates(model), lr)]

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        assert isinstance(model, SD3Transformer2DModel)
        save_updates(model, directory / "lora")
        return {**super().export(merged(model), directory), "lora": directory / "lora"}


def noise_shares(draws: Sequence[Draw], mean: float, std: float) -> Tensor:
    """Share of noise of each draw, (B,): its logit is normal; a thousandth is the unit."""
    logits = [draw.numpy("noise share").normal(mean, std) for draw in draws]
    shares = torch.tensor(logits, dtype=torch.float64).sigmoid()
    return (shares * 1000).round().clamp(1, 1000).float() / 1000


def _mean_square(errors: Tensor) -> Tensor:
    """Mean over all axes but the first, (B,)."""
    return (errors**2).flatten(1).mean(1)
