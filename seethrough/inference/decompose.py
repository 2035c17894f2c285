"""Decomposing a page into layers with the 3D model, in the flow that the model was trained for.

V3: a body pass on the page, then a head pass on the head, cut from the page in its own
resolution. V2: one pass over all tags.

Every random number comes from a page's seed, so a page's layers depend on the page, its seed and
the options alone, up to the rounding of batched arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from seethrough.data.crops import fit_page
from seethrough.data.draws import Draw
from seethrough.data.layout import Box
from seethrough.data.tags import HEAD
from seethrough.errors import InputError
from seethrough.inference.absent import Nothing, find_nothing
from seethrough.inference.composite import Image8, content_box
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.flow import Flow, unet_flow
from seethrough.inference.head_crop import Square, head_box, head_rect, paste, paste_box
from seethrough.inference.progress import Tell, silent
from seethrough.inference.sampling import Solver, sample_latents
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.text_table import TextTable

NO_HEAD = "no head found: the head pass saw what the body pass saw"
"""The note of a decomposition without a head to enlarge."""


@attrs.frozen
class LayerDiff:
    """The networks of a decomposition, on one device; each computes in its own dtype."""

    unet: UNetFrameConditionModel
    vae: AutoencoderKL
    trans_vae: TransparentVAE
    text: TextTable
    """Text embeddings of the tags."""
    config_file: str = "the UNet's config"
    """What messages call the UNet's config."""
    _nothing: dict[int, Nothing] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def nothing(self, side: int) -> Nothing:
        """The latents of an empty picture of `side` pixels, measured once."""
        if side not in self._nothing:
            self._nothing[side] = find_nothing(self.vae, self.trans_vae, side)
        return self._nothing[side]

    @property
    def flow(self) -> Flow:
        """The passes that the UNet was trained for; InputError if it fits no flow."""
        return unet_flow(self.unet, self.config_file)


@attrs.frozen(kw_only=True)
class DecomposeOptions:
    """How to decompose; the defaults are the published ones."""

    resolution: int = 1280
    """Side of the canvas in pixels, a multiple of the VAE's scale (8)."""
    steps: int = 30
    """Steps of the sampler."""
    solver: Solver = attrs.field(factory=Solver)
    """Noise schedule, prediction type and solver."""
    shared_init_noise: bool = True
    """Start all frames of a pass from the same noise."""
    sample_condition: bool = False
    """Encode the page with a sample of the VAE's posterior in place of its mean."""
    page_alpha: bool = True
    """Multiply the layers' alpha by the page's: nothing lies outside the character."""
    crop_to: Literal["page", "character"] = "page"
    """Whether the body pass sees the whole page, or its part where alpha is above 0."""
    head_pass: Literal["crop", "body"] = "crop"
    """V3: whether the head pass sees the head alone, enlarged, or what the body pass saw."""
    head_threshold: int = 15
    """The head is where its layer's alpha (0 to 255) is above this."""
    head_area: float = 2e-4
    """A head that covers no more than this share of the canvas (18 x 18 of 1280 x 1280 pixels) is
    none, but specks."""
    head_margin: float = 0.2
    """Margin around the head at each side, as a share of its length."""
    head_margin_below: float = 0.5
    """A head longer than this share of the page gets no margin along that axis."""
    decode_passes: int = 1
    """1, or 8 for the pixel decoder's median over flips and turns."""
    page_batch: int = 1
    """Pages that go through the UNet together."""
    decode_batch: int = 1
    """Frames that are decoded together, or, of true layers, encoded."""
    skip_absent: bool = False
    """Leave frames undecoded whose latents are those of nothing: their layers are empty, where a
    decoder would leave alpha of a few levels that no part keeps."""


def decompose_page(
    models: LayerDiff,
    page: Image8,
    seed: int = 42,
    options: DecomposeOptions = DecomposeOptions(),
    tell: Tell = silent,
) -> Decomposition:
    """Decompose one page of any size, (H, W, 4) uint8 straight RGBA or (H, W, 3) RGB.

    `seethrough.data.pictures.read_picture` gives one from a file, and
    `seethrough.tasks.decompose.load_layerdiff` the networks. The page's colour counts under
    transparency too: training pages have a background there. The layers lie on a square canvas,
    `on_page` of the result brings them to the page's own size. `tell` is told of all work, which
    is `page_work` in all.

    Raises:
        InputError: when the page is no such array, or the networks or the resolution do not fit.
    """
    return decompose_pages(models, [page], [seed], options, tell)[0]


def page_work(models: LayerDiff, options: DecomposeOptions) -> float:
    """How much work a page is, in the unit of `Tell`."""
    return len(models.flow.groups) * (options.steps + 1)


def decompose_pages(
    models: LayerDiff,
    pages: Sequence[Image8],
    seeds: Sequence[int],
    options: DecomposeOptions,
    tell: Tell = silent,
) -> list[Decomposition]:
    """Decompose pages, `options.page_batch` at a time; each as `decompose_page` would."""
    check_resolution(models, options)
    groups = models.flow.groups
    result: list[Decomposition] = []
    for start in range(0, len(pages), options.page_batch):
        chunk = slice(start, start + options.page_batch)
        sources = [_with_alpha(page) for page in pages[chunk]]
        result += _decompose_batch(models, groups, sources, seeds[chunk], options, tell)
    return result


def _decompose_batch(
    models: LayerDiff,
    groups: Sequence[tuple[str, ...]],
    sources: list[Image8],
    seeds: Sequence[int],
    options: DecomposeOptions,
    tell: Tell,
) -> list[Decomposition]:
    first, *second = groups
    crops = [body_crop(source, options) for source in sources]
    layers = _decompose_crops(models, sources, crops, 0, seeds, options, tell)
    heads: list[Box | None] = [None] * len(sources)
    note = None
    if second and options.head_pass == "crop":
        note = NO_HEAD
        heads = [
            find_head(frames[first.index(HEAD)], source, options)
            for frames, source in zip(layers, sources, strict=True)
        ]
    if second:
        head_crops = [head or crop for head, crop in zip(heads, crops, strict=True)]
        more = _decompose_crops(models, sources, head_crops, 1, seeds, options, tell)
        layers = [[*body, *head] for body, head in zip(layers, more, strict=True)]
    tags = [tag for group in groups for tag in group]
    return [
        Decomposition(
            page=_fit(source, options.resolution),
            layers=dict(zip(tags, frames, strict=True)),
            canvas=_square(source, options.resolution),
            head_box=head,
            note=None if head else note,
        )
        for source, frames, head in zip(sources, layers, heads, strict=True)
    ]


def body_crop(source: Image8, options: DecomposeOptions) -> Box:
    """What the first pass sees of a page, (H, W, 4) RGBA: the whole, or the character's box."""
    whole = (0, 0, source.shape[1], source.shape[0])
    if options.crop_to == "page":
        return whole
    return content_box(source) or whole


def find_head(layer: Image8, source: Image8, options: DecomposeOptions) -> Box | None:
    """What the head pass sees of a page, by its `head` layer on the canvas, (R, R, 4).

    In pixels of the page; None when the layer is empty or holds only specks.
    """
    rect = head_rect(layer[..., 3], options.head_threshold, least=options.head_area)
    if rect is None:
        return None
    canvas = _square(source, options.resolution)
    return head_box(rect, canvas, options.head_margin, options.head_margin_below)


def _decompose_crops(
    models: LayerDiff,
    sources: Sequence[Image8],
    crops: Sequence[Box],
    group_index: int,
    seeds: Sequence[int],
    options: DecomposeOptions,
    tell: Tell,
) -> list[list[Image8]]:
    """One pass over a crop of each page; its layers are brought back to the canvas."""
    pages = [
        fit_page(source, crop, options.resolution, flip=False)
        for source, crop in zip(sources, crops, strict=True)
    ]
    layers = decompose_group(models, pages, group_index, seeds, options, tell=tell)
    return [
        paste_layers(list(frames), crop, source, options.resolution)
        for frames, crop, source in zip(layers, crops, sources, strict=True)
    ]


def paste_layers(
    layers: Sequence[Image8], crop: Box, source: Image8, resolution: int
) -> list[Image8]:
    """Bring layers of a crop of `source`, (R, R, 4) each, to their place on its canvas."""
    if crop == (0, 0, source.shape[1], source.shape[0]):
        return list(layers)
    place = paste_box(crop, _square(source, resolution))
    return [paste(layer, place) for layer in layers]


@torch.no_grad()
def decompose_group(
    models: LayerDiff,
    pages: Sequence[Image8],
    group_index: int,
    seeds: Sequence[int],
    options: DecomposeOptions,
    tags: Sequence[str] | None = None,
    tell: Tell = silent,
) -> Image8:
    """Predict the layers of one tag group for square pages, all in one batch.

    `pages` are (R, R, 4) straight RGBA with R = `options.resolution`, one seed each. Returns
    (pages, F, R, R, 4) uint8 straight RGBA, frames in the order of `tags`, by default those of
    the model's own flow.
    """
    tags = models.flow.groups[group_index] if tags is None else tags
    device, dtype = models.unet.device, models.unet.dtype
    draws = [Draw(seed=seed, stage="decompose", step=0, index=0, sample=0) for seed in seeds]
    pixels = torch.from_numpy(np.stack(pages)).to(device).permute(0, 3, 1, 2).float() / 255
    scaling: float = models.vae.config["scaling_factor"]
    condition = scaling * _encode(models, pixels[:, :3], draws, group_index, options)
    batch, channels, height, width = condition.shape
    frames = len(tags)

    rows = models.text.rows(list(tags))
    text = models.text.hidden[rows].to(device, dtype).repeat(batch, 1, 1)
    side = float(options.resolution)
    conditions = {
        "text_embeds": models.text.pooled[rows].to(device, dtype).repeat(batch, 1),
        # Kept in float32: bfloat16 can't count single pixels at such sizes.
        "time_ids": torch.tensor([[side, side, 0, 0, side, side]], device=device).repeat(
            batch * frames, 1
        ),
    }
    grouped = bool(models.unet.config["group_embedding"])
    repeated = condition.to(dtype)[:, None].expand(-1, frames, -1, -1, -1)

    def predict(latents: Tensor, timesteps: Tensor) -> Tensor:
        output = models.unet(
            torch.cat([latents.to(dtype), repeated], dim=2),
            timesteps,
            text,
            added_cond_kwargs=conditions,
            group_index=group_index if grouped else None,
            return_dict=False,
        )
        tell("denoising", 1)
        return output[0]

    latents = sample_latents(
        predict,
        solver=options.solver,
        steps=options.steps,
        shape=(frames, channels, height, width),
        generators=[draw.numpy(f"noise {group_index}") for draw in draws],
        shared_init_noise=options.shared_init_noise,
        device=device,
    )
    mask = pixels[:, 3:] if options.page_alpha else None
    layers = decode_layers(models, latents.flatten(0, 1) / scaling, mask, options, tell)
    return layers.reshape(batch, frames, *layers.shape[1:])


@torch.no_grad()
def decode_layers(
    models: LayerDiff,
    latents: Tensor,
    mask: Tensor | None,
    options: DecomposeOptions,
    tell: Tell = silent,
) -> Image8:
    """Decode unscaled latents (N, C, h, w) to layers, (N, H, W, 4) uint8 straight RGBA.

    `mask`, (B, 1, H, W) in [0, 1], multiplies alpha; each of its rows serves N / B consecutive
    frames. `options.decode_batch` frames are decoded at a time, and with `options.skip_absent`
    only those that are not the latents of nothing.
    """
    scale = models.trans_vae.latent_scale
    height, width = (scale * side for side in latents.shape[-2:])
    layers = np.zeros((len(latents), height, width, 4), np.uint8)
    present = list(range(len(latents)))
    if options.skip_absent:
        absent = models.nothing(height).holds(latents)
        present = [frame for frame in present if not absent[frame]]
        tell("decoding", 1 - len(present) / len(latents))
    frames = len(latents) // len(mask) if mask is not None else 1
    for start in range(0, len(present), options.decode_batch):
        chunk = present[start : start + options.decode_batch]
        masks = None if mask is None else mask[[frame // frames for frame in chunk]]
        rgba = models.trans_vae.decode(models.vae, latents[chunk], masks, options.decode_passes)
        levels = (rgba.float().clamp(0, 1) * 255).round().to(torch.uint8)
        layers[chunk] = levels.permute(0, 2, 3, 1).cpu().numpy()
        tell("decoding", len(chunk) / len(latents))
    return layers


def _encode(
    models: LayerDiff,
    rgb: Tensor,
    draws: Sequence[Draw],
    group_index: int,
    options: DecomposeOptions,
) -> Tensor:
    """The pages' latents, unscaled: seen as opaque, whatever their alpha, as in training."""
    argb = torch.cat([torch.ones_like(rgb[:, :1]), rgb], dim=1)
    if not options.sample_condition:
        return models.trans_vae.encode(models.vae, argb)
    scale = models.trans_vae.latent_scale
    shape = (models.vae.config["latent_channels"], rgb.shape[-2] // scale, rgb.shape[-1] // scale)
    noise = [
        draw.numpy(f"condition {group_index}").standard_normal(shape, dtype=np.float32)
        for draw in draws
    ]
    return models.trans_vae.encode(models.vae, argb, torch.from_numpy(np.stack(noise)))


def _square(source: Image8, resolution: int) -> Square:
    return Square(source.shape[1], source.shape[0], resolution)


def _fit(source: Image8, resolution: int) -> Image8:
    height, width = source.shape[:2]
    return fit_page(source, (0, 0, width, height), resolution, flip=False)


def _with_alpha(page: Image8) -> Image8:
    if page.ndim != 3 or page.shape[2] not in (3, 4) or page.dtype != np.uint8 or not page.size:
        raise InputError(
            f"a page is (H, W, 4) RGBA or (H, W, 3) RGB of 8 bits, found {page.shape} of"
            f" {page.dtype}: convert the picture"
        )
    if page.shape[2] == 4:
        return page
    return np.concatenate([page, np.full_like(page[..., :1], 255)], axis=-1)


def check_resolution(models: LayerDiff, options: DecomposeOptions) -> None:
    """Raise InputError when the networks can't work at the options' resolution."""
    scale = models.trans_vae.latent_scale
    if options.resolution < scale or options.resolution % scale:
        raise InputError(
            f"resolution={options.resolution} is no multiple of {scale}, the pixels per latent:"
            f" take {max(options.resolution // scale, 1) * scale}"
        )
