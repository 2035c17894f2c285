"""Soft masks of what is transparent in a photo: SD3.5 fine-tuned to predict a mask's latents.

One forward pass: the latents of the photo alone go in, with the embeddings of the empty prompt and
the constant timestep 1000; what comes out are the latents of the mask, which the autoencoder
decodes. Of the older way, diffusion, it is a pass for each step from noise to the mask. The network
sees the photo as a square, whatever its shape, as in its training.

The published inference draws latents from the posterior, ends in bfloat16 and leaves the mask a
square. Here the posterior's mean is taken unless asked otherwise, what follows the decoder is
float32, and the mask has the photo's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import cv2
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from seethrough.data.class_colours import palette
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, Plane
from seethrough.models.checkpoints import load_model
from seethrough.models.empty_prompt_sd3 import PromptEmbeddings
from seethrough.models.sd3 import denoise, fold_modulation, load_transformer, predict

TIMESTEP = 1000.0
"""The published timestep: pure noise in rectified flow's terms, one above the last timestep of a
noise schedule."""


@attrs.frozen(eq=False)
class Transparency:
    """The networks, on one device; each computes in its own dtype."""

    transformer: SD3Transformer2DModel
    """From latents of the photo to as many of the mask; of one step, its modulation is folded."""
    vae: AutoencoderKL
    prompt: PromptEmbeddings
    """The empty prompt."""
    shift: float | None = None
    """Of diffusion: how far its steps are shifted towards noise; None is a model of one step."""

    @property
    def pixels_per_token(self) -> int:
        """Side of the square of pixels that is one token to the transformer: 16 for SD3."""
        latent = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        return latent * self.transformer.config["patch_size"]


@attrs.frozen(kw_only=True)
class MaskOptions:
    """How masks are predicted; resolution and classes belong to the model."""

    resolution: int = 1024
    """Side in pixels of the square that the network sees, a multiple of 16."""
    classes: int = 2
    """Colours of the predicted picture, background among them: of two, black and white, else those
    of `palette`."""
    posterior: Literal["mean", "sample"] = "mean"
    """Which latents of the photo the network sees: `sample` draws them, as published."""
    steps: int = 100
    """Diffusion: steps from noise to the mask."""
    seed: int = 0
    """With a photo's pixels it fixes what is drawn: by `sample`, and the noise of diffusion."""


def load_transparency(
    transformer: Path,
    vae: Path,
    prompt: PromptEmbeddings,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    timestep: float = TIMESTEP,
    shift: float | None = None,
) -> Transparency:
    """The networks from folders in diffusers' layout.

    Args:
        transformer: folder of a fine-tuned SD3Transformer2DModel.
        vae: folder of the AutoencoderKL that it was trained with.
        prompt: the empty prompt of the base that it was trained from.
        device: where to compute.
        dtype: type of both networks.
        timestep: the one that the transformer was trained at, if it is of one step.
        shift: of diffusion, as of `Transparency`.

    Raises:
        InputError: when a part is missing or broken, or they do not fit each other.
    """
    network = load_transformer(transformer)
    autoencoder = load_model(AutoencoderKL, vae)
    _check_fit(network, autoencoder, prompt, shift is not None, transformer / "config.json")
    for module in (network, autoencoder):
        module.requires_grad_(False)
        nn.Module.to(module, device, dtype)
    embeds, pooled = (tensor.to(device, dtype) for tensor in prompt)
    if shift is None:
        fold_modulation(network, timestep, pooled)
    return Transparency(network, autoencoder, PromptEmbeddings(embeds, pooled), shift)


def _check_fit(
    transformer: Any, vae: Any, prompt: PromptEmbeddings, diffusion: bool, config_file: Path
) -> None:
    channels = vae.config["latent_channels"]
    given = "for the latents of photo and mask" if diffusion else "for the photo's latents alone"
    for key, needed, why in (
        ("in_channels", 2 * channels if diffusion else channels, given),
        ("out_channels", channels, "for the mask's latents"),
        ("joint_attention_dim", prompt.embeds.shape[-1], "as wide as the prompt's embeddings"),
        ("pooled_projection_dim", prompt.pooled.shape[-1], "as wide as the pooled prompt"),
    ):
        if transformer.config[key] != needed:
            raise InputError(
                f"{config_file}: {key} is {transformer.config[key]!r}, a transformer that segments "
                f"with this autoencoder and prompt has {needed!r}, {why}: give those it was "
                "trained with"
            )


def check_resolution(models: Transparency, resolution: int) -> None:
    """Raise InputError for a side that the networks can't see."""
    unit = models.pixels_per_token
    most = models.transformer.config["pos_embed_max_size"] * unit
    if resolution % unit or not unit <= resolution <= most:
        near = min(max(round(resolution / unit) * unit, unit), most)
        raise InputError(
            f"resolution={resolution} is no multiple of {unit}, the pixels per token, from {unit} "
            f"to {most}, as far as the model's positions reach: take {near}"
        )


def predict_masks(
    models: Transparency, photos: Sequence[Image8], options: MaskOptions = MaskOptions()
) -> list[Plane]:
    """How transparent each pixel of each photo is; arguments and errors as of `decode_masks`.

    Returns:
        For each photo (H, W) in [0, 1] at its size: 1 is transparent.
    """
    planes = soft_masks(decode_masks(models, photos, options), options.classes).numpy()
    return [
        fit_mask(plane, (photo.shape[0], photo.shape[1]))
        for plane, photo in zip(planes, photos, strict=True)
    ]


@torch.no_grad()
def decode_masks(
    models: Transparency, photos: Sequence[Image8], options: MaskOptions = MaskOptions()
) -> Tensor:
    """Predict masks as pictures; all photos go through the networks together.

    Args:
        models: what `load_transparency` gives.
        photos: (H, W, 3) RGB each, of any sizes.
        options: how.

    Returns:
        (N, 3, S, S) float32 in [0, 1] on the CPU, S the resolution: masks as RGB pictures. Black
        and white are only nearly grey: the channels differ by what the networks get wrong.

    Raises:
        InputError: when the resolution doesn't fit the networks.
    """
    check_resolution(models, options.resolution)
    squares = np.stack([fit_photo(photo, options.resolution) for photo in photos])
    vae = models.vae
    pixels = torch.from_numpy(squares).to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    posterior: Any = vae.encode(pixels.to(vae.dtype))  # pyright: ignore[reportArgumentType]
    distribution = posterior.latent_dist
    latents = distribution.mean.float()
    if options.posterior == "sample":
        latents = latents + distribution.std.float() * _noise("posterior", photos, latents, options)
    shift, scale = vae.config["shift_factor"] or 0.0, vae.config["scaling_factor"]
    scaled = ((latents - shift) * scale).to(models.transformer.dtype)
    if models.shift is None:
        timesteps = torch.zeros(len(photos), device=vae.device)  # folded into constants
        predicted = predict(models.transformer, scaled, timesteps, *models.prompt)
    else:
        noise = _noise("flow", photos, latents, options)
        predicted = denoise(
            models.transformer,
            scaled,
            noise,
            *models.prompt,
            steps=options.steps,
            shift=models.shift,
        )
    unscaled = predicted.to(vae.dtype) / scale + shift
    decoded: Any = vae.decode(unscaled, return_dict=False)  # pyright: ignore[reportArgumentType]
    return (decoded[0].float() / 2 + 0.5).clamp(0, 1).cpu()


def soft_masks(pictures: Tensor, classes: int = 2) -> Tensor:
    """How transparent the pixels of predicted pictures are.

    Args:
        pictures: (N, 3, H, W) in [0, 1], as of `decode_masks`.
        classes: as of `MaskOptions`.

    Returns:
        (N, H, W) in [0, 1]. Of two classes it is the mean of the channels, as published; of more,
        how much nearer the colour is to that of a class than to black, 0.5 being halfway.
    """
    if classes == 2:
        return pictures.mean(dim=1)
    distances = (pictures[:, None] - palette(classes)[:, :, None, None]).norm(dim=2)
    background, nearest = distances[:, 0], distances[:, 1:].amin(dim=1)
    return background / (background + nearest)


def _noise(name: str, photos: Sequence[Image8], like: Tensor, options: MaskOptions) -> Tensor:
    """Standard normal noise, each photo's by its pixels and the seed alone, shaped as `like`."""
    noise: list[Tensor] = []
    for photo in photos:
        content = f"{name} {options.seed} {photo.shape} ".encode() + photo.tobytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        generator = np.random.Generator(np.random.Philox(key=np.frombuffer(digest, "<u8")))
        drawn = generator.standard_normal(tuple(like.shape[1:]), np.float32)
        noise.append(torch.from_numpy(drawn))
    return torch.stack(noise).to(like)


def fit_photo(photo: Image8, side: int) -> Image8:
    """A photo as the network sees it: (side, side, 3), its shape not kept, bilinear."""
    size = (side, side)
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def fit_mask(mask: Plane, size: tuple[int, int]) -> Plane:
    """A soft mask, (h, w) or (h, w, channels), at a size (height, width).

    Pixels are averaged where that is smaller, else it is bilinear.
    """
    height, width = mask.shape[:2]
    if (height, width) == size:
        return mask
    smaller = size[0] <= height and size[1] <= width
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=method), np.float32)
