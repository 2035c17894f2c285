"""Depth of a page's layers with Marigold 3D: all frames of a character in one forward pass.

The frames are V2's tags and, last, the page, where any layer lies. They share one scale, so their
depths compare. A pixel's depth is known where its layer is; elsewhere a frame's depth is whatever
the network says.

The network was trained on squares with the page in the middle, and sees such squares here. Colour
of transparent pixels is filled as in our training, from float32; the published inference rounds to
bfloat16 first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from seethrough.data.crops import argb_planes, fit_levels
from seethrough.data.depth import Beyond, Transparent, disk_to_depth, spread, visible_colour
from seethrough.data.draws import Draw
from seethrough.data.layout import Box
from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, Plane, content_box
from seethrough.inference.depth_ensemble import ensemble_depths
from seethrough.inference.depth_frames import Place, merge_frames, where_layers
from seethrough.inference.memory import WHOLE, MemoryMode
from seethrough.inference.progress import Tell, silent
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, open_base, unet_folder
from seethrough.models.empty_prompt import encode_empty_prompt

DepthNoise = Literal["random", "zeros"]


@attrs.frozen
class Marigold:
    """The networks of depth, on one device; each computes in its own dtype."""

    unet: UNetFrameConditionModel
    """12 input channels: latents of the page, of the frame, and of the noisy depth."""
    vae: AutoencoderKL
    prompt: Tensor
    """Hidden states of the empty prompt, (tokens, width)."""
    scheduler: DDIMScheduler

    @property
    def pixels_per_latent(self) -> int:
        """The VAE's scale."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)


@attrs.frozen(kw_only=True)
class DepthOptions:
    """How depth is predicted; the defaults are the published ones."""

    resolution: int | None = 768
    """Side in pixels of the square that the network sees, a multiple of the VAE's scale (8); None
    for its own size, enlarged to such a multiple by transparent pixels."""
    crop_to: Literal["page", "character"] = "page"
    """Whether the square is around the whole page, or around where any layer is."""
    steps: int = 4
    """Steps of the sampler, DDIM with trailing timesteps."""
    noise: DepthNoise = "random"
    """What it starts from: random numbers, or zeros, as the network was trained."""
    ensemble: int = 1
    """Runs from different noise. The median of several counts; over all layers of the page it runs
    from 0 to 1, which a single run need not."""
    absent_frames: bool = True
    """Whether a tag without a layer is a frame too, a transparent one, as in the training of the
    published model; without them the network runs over what there is."""
    transparent: Transparent = "bled"
    """What stands where a picture is transparent: the colours around it, or mid-gray."""
    vae_batch: int = 4
    """Frames that the VAE encodes or decodes together."""


def load_marigold(
    unet: Path,
    base: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    memory: MemoryMode = WHOLE,
    later: torch.device | None = None,
) -> Marigold:
    """The networks of depth; the text encoder has encoded the empty prompt and is gone.

    Each folder may be a published repository in the hub's layout, both the same one.

    Args:
        unet: a Marigold 3D UNet, or a folder with the subfolder `unet`.
        base: a folder with `vae`, `text_encoder`, `tokenizer` and `scheduler`.
        device: where to put them.
        dtype: type of the UNet and the VAE.
        memory: how they use less memory than they have.
        later: where they will compute, if they only wait on `device`.

    Raises:
        InputError: when a part is missing or broken, or they do not fit each other.
    """
    folder = unet_folder(unet)
    network = load_model(UNetFrameConditionModel, folder)
    vae = load_model(AutoencoderKL, open_base(base).require("vae"))
    prompt = encode_empty_prompt(base, device)
    _check_fit(network, vae, prompt, folder / "config.json")
    scheduler = load_scheduler(base)
    for module in (network, vae):
        module.requires_grad_(False)
    memory.place(network, vae, device, dtype, later)
    return Marigold(network, vae, prompt.to(dtype), scheduler)


def load_scheduler(base: Path) -> DDIMScheduler:
    """DDIM (Song et al., 2021) on the noise schedule of a base, with trailing timesteps.

    Trailing, because the first step has to begin at the last timestep, where nothing of the latents
    is left (Lin et al., 2024), whatever the file says.

    Raises:
        InputError: when the base has no readable schedule, or one that has no first step.
    """
    folder = open_base(base).require("scheduler")
    try:
        config: Any = DDIMScheduler.load_config(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: the scheduler's config cannot be read ({error})") from error
    own = {"timestep_spacing": "trailing", "clip_sample": False, "thresholding": False}
    scheduler: Any = DDIMScheduler.from_config(config, **own)
    if scheduler.config.rescale_betas_zero_snr and scheduler.config.prediction_type == "epsilon":
        raise InputError(
            f"{folder}: at zero terminal SNR the noise tells nothing of the latents, so "
            "prediction_type can't be 'epsilon': the base was not made for Marigold"
        )
    return scheduler


def _check_fit(unet: Any, vae: Any, prompt: Tensor, config_file: Path) -> None:
    channels = vae.config["latent_channels"]
    for key, needed, why in (
        ("in_channels", 3 * channels, "for the page, the frame and the noisy depth"),
        ("out_channels", channels, "for the depth"),
        ("cross_attention_dim", prompt.shape[-1], "as wide as the base's text encoder"),
        ("addition_embed_type", None, "as SDXL's pooled text has no place here"),
    ):
        if unet.config[key] != needed:
            raise InputError(
                f"{config_file}: {key} is {unet.config[key]!r}, a Marigold 3D UNet on this base "
                f"has {needed!r}, {why}: give the UNet of Marigold 3D, and the base it was "
                "trained on"
            )


def frame_depths(
    models: Marigold,
    page: Image8,
    layers: Mapping[str, Image8],
    seed: int = 42,
    options: DepthOptions = DepthOptions(),
    tell: Tell = silent,
) -> dict[str, Plane]:
    """The depth of a page's layers, by the tag of the frame: V3's parts of hair and eyes share one.

    `seethrough.inference.parts.layer_depths` gives each of V3's layers its own. The same networks,
    page, layers, seed and options give the same bytes on the same machine.

    Args:
        models: what `load_marigold` gives.
        page: (H, W, 4) straight RGBA; its alpha doesn't count.
        layers: (H, W, 4) straight RGBA each, by tag, of either version; `head` doesn't count.
        seed: what the noise follows from, with the page's bytes.
        options: how.
        tell: told of all work, `depth_work` in all.

    Returns:
        (H, W) in [0, 1], near 0, for each frame that has a layer: none is decoded for nothing.

    Raises:
        InputError: when the resolution doesn't fit the VAE.
        ValueError: when a layer has another size than the page.
    """
    frames = merge_frames(layers, page.shape[:2])
    if not frames:
        tell("depth", depth_work(options))
        return {}
    anywhere = where_layers(page, frames)
    seen = content_box(anywhere) if options.crop_to == "character" else None
    place = _place(page, models, options, seen)
    present = list(frames)
    squares = [place.fit(picture) for picture in (*frames.values(), anywhere)]
    pixels = torch.from_numpy(np.stack([argb_planes(square) for square in squares]))
    if options.absent_frames:
        count, places = len(TAGS_V2), [TAGS_V2.index(tag) for tag in present]
    else:
        count, places = len(present), list(range(len(present)))
    condition = _condition(models, pixels, places, count, options)
    draw = Draw(seed=_page_seed(seed, page), stage="depth", step=0, index=0, sample=0)
    runs: list[Tensor] = []
    for run in range(options.ensemble):
        latents = _sample(models, condition, draw.numpy(f"noise {run}"), options, tell)
        runs.append(decode_depth(models.vae, latents[places], options.vae_batch))
        tell("depth", 1)
    depths = runs[0]
    if len(runs) > 1:
        depths = ensemble_depths(torch.stack(runs), pixels[:-1, 0].to(depths.device) > 0)
    planes = depths.cpu().numpy()
    return {tag: place.back(plane) for tag, plane in zip(present, planes, strict=True)}


@torch.no_grad()
def reconstruct_depths(
    models: Marigold,
    levels: Mapping[str, np.ndarray],
    nearest: int,
    options: DepthOptions,
    *,
    beyond: Beyond = "far",
) -> dict[str, Plane]:
    """What the autoencoder leaves of true depths, in the square that the network sees.

    No network over these latents tells depth better, short of luck.

    Args:
        models: what `load_marigold` gives.
        levels: (H, W) uint8 or uint16 by tag, as stored: 0 empty, larger nearer.
        nearest: the page's largest level.
        options: how.
        beyond: depth around a layer, as in `DepthDataset3D`.

    Returns:
        (H, W) in [0, 1], near 0, by tag.
    """
    result: dict[str, Plane] = {}
    for tag, plane in levels.items():
        place = _place(plane, models, options)
        whole = (0, 0, place.width, place.height)
        seen = fit_levels(plane, whole, place.box, place.resolution, flip=False)
        if beyond == "nearest":
            seen = spread(seen)
        depth = torch.from_numpy(disk_to_depth(seen, nearest))[None, None]
        gray: Any = depth.expand(-1, 3, -1, -1).to(models.vae.device, models.vae.dtype)
        posterior: Any = models.vae.encode(gray)
        latents = posterior.latent_dist.mode() * models.vae.config["scaling_factor"]
        result[tag] = place.back(decode_depth(models.vae, latents, batch=1)[0].cpu().numpy())
    return result


def depth_work(options: DepthOptions) -> float:
    """How much work a page's depth is, in the unit of `Tell`."""
    return options.ensemble * (options.steps + 1)


def _page_seed(seed: int, page: Image8) -> int:
    digest = hashlib.blake2b(f"{seed} {page.shape} ".encode() + page.tobytes(), digest_size=7)
    return int.from_bytes(digest.digest(), "little")


def _place(
    page: np.ndarray, models: Marigold, options: DepthOptions, seen: Box | None = None
) -> Place:
    """Where the network looks: around the part `seen` of a page (H, W, ...), by default all."""
    height, width = page.shape[:2]
    x1, y1, x2, y2 = seen or (0, 0, width, height)
    side, scale = max(x2 - x1, y2 - y1), models.pixels_per_latent
    resolution = options.resolution
    if resolution is None:
        resolution = side = -(-side // scale) * scale
    if resolution < scale or resolution % scale:
        raise InputError(
            f"resolution={resolution} is no multiple of {scale}, the pixels per latent:"
            f" take {max(resolution // scale, 1) * scale}"
        )
    left, top = x1 - (side - (x2 - x1)) // 2, y1 - (side - (y2 - y1)) // 2
    return Place(width, height, (left, top, left + side, top + side), resolution)


@torch.no_grad()
def _condition(
    models: Marigold, argb: Tensor, places: list[int], count: int, options: DepthOptions
) -> Tensor:
    """What all steps see: latents of the page and of each frame, (1, count + 1, 2 C, h, w).

    `argb`, (present + 1, 4, S, S) uint8, holds the frames at `places` and the page, which is the
    last frame too. An absent frame is a transparent picture, encoded once.
    """
    device = models.unet.device
    if len(places) < count:
        argb = torch.cat([argb, torch.zeros_like(argb[:1])])
    scaling: float = models.vae.config["scaling_factor"]
    encoded: list[Tensor] = []
    for chunk in argb.split(options.vae_batch):
        colour = visible_colour(chunk.to(device), options.transparent)
        posterior: Any = models.vae.encode(colour.to(models.vae.dtype))
        encoded.append(posterior.latent_dist.mode() * scaling)
    latents = torch.cat(encoded).to(models.unet.dtype)
    rows = [len(latents) - 1] * count
    for row, place in enumerate(places):
        rows[place] = row
    page = len(places)
    frames = latents[[*rows, page]]
    return torch.cat([latents[page].expand_as(frames), frames], dim=1)[None]


@torch.no_grad()
def _sample(
    models: Marigold,
    condition: Tensor,
    generator: np.random.Generator,
    options: DepthOptions,
    tell: Tell,
) -> Tensor:
    """Depth latents of all frames, scaled, (F, C, h, w) float32; each has noise of its own."""
    device, dtype = models.unet.device, models.unet.dtype
    _, frames, channels, height, width = condition.shape
    shape = (1, frames, channels // 2, height, width)
    latents = start_latents(generator, shape, options.noise).to(device)
    text = models.prompt.to(device, dtype).expand(frames, -1, -1)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        noisy = torch.cat([condition, latents.to(dtype)], dim=2)
        tell("depth", 1)
        return models.unet(noisy, timestep, text, return_dict=False)[0]

    return denoise(predict, models.scheduler, options.steps, latents)[0]


def start_latents(
    generator: np.random.Generator, shape: Sequence[int], noise: DepthNoise
) -> Tensor:
    """Depth latents before the first step, float32, on the host."""
    if noise == "zeros":
        return torch.zeros(tuple(shape))
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def denoise(
    predict: Callable[[Tensor, int], Tensor], scheduler: DDIMScheduler, steps: int, latents: Tensor
) -> Tensor:
    """Walk from what `start_latents` gives to depth latents, of its shape, float32.

    `predict` maps noisy latents and a timestep to the network's prediction, of any type.
    """
    # A copy: one that has been walked keeps its place.
    walk: Any = DDIMScheduler.from_config(scheduler.config)
    walk.set_timesteps(steps)
    for timestep in walk.timesteps.tolist():
        prediction = predict(latents, timestep).float()
        latents = walk.step(prediction, timestep, latents, return_dict=False)[0]
    return latents


@torch.no_grad()
def decode_depth(vae: AutoencoderKL, latents: Tensor, batch: int) -> Tensor:
    """Scaled latents (N, C, h, w) to depth (N, S, S) float32 in [0, 1], `batch` at a time."""
    scaling: float = vae.config["scaling_factor"]
    depths: list[Tensor] = []
    for chunk in latents.split(batch):
        unscaled: Any = (chunk / scaling).to(vae.dtype)
        depth = vae.decode(unscaled, return_dict=False)[0].float().mean(dim=1)
        depths.append((depth.clamp(-1, 1) + 1) / 2)
    return torch.cat(depths)
