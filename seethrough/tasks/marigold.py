"""Marigold: the depth of a page (2D), or of all its layers in one scale (3D), by diffusion."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate.utils import send_to_device
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from seethrough.data.depth import (
    DepthDataset2D,
    DepthDataset3D,
    Transparent,
    depth_of,
    latent_mask,
    visible_colour,
)
from seethrough.data.draws import Draw
from seethrough.data.items import PAGE
from seethrough.errors import InputError
from seethrough.inference.marigold import load_scheduler
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import open_base, read_config, unet_folder
from seethrough.models.empty_prompt import encode_empty_prompt
from seethrough.models.unet import load_unet
from seethrough.recipes.marigold import (
    Marigold2DData,
    Marigold2DTrain,
    Marigold3DData,
    Marigold3DTrain,
)
from seethrough.tasks.datasets import frame_depth_dataset, page_depth_dataset, readable
from seethrough.tasks.diffusion import Diffusion
from seethrough.tasks.groupwise import GroupwiseTask, GroupwiseUNet, Noised
from seethrough.tasks.latent_diffusion import LatentDiffusionTask
from seethrough.tasks.latents import (
    LatentStore,
    PictureEncoder,
    PictureItems,
    load_vae,
    weights_hash,
)
from seethrough.tasks.marigold_depths import MEASURED, SEARCHED, SHOWN, Scene, measure, rows
from seethrough.tasks.noise import depth_noise
from seethrough.tasks.task import Batch, Loss, StageContext
from seethrough.tasks.transfer import on_device

MarigoldStageT = TypeVar("MarigoldStageT", Marigold2DTrain, Marigold3DTrain)


class DepthEncoder(PictureEncoder):
    """Encodes pictures, as `visible_colour` has them, and depths, as grey pictures.

    Latents are the mean of the posterior, unscaled: of a picture and its depth alike.
    """

    def __init__(self, vae: AutoencoderKL, transparent: Transparent) -> None:
        super().__init__(vae)
        self.transparent: Transparent = transparent
        self._empty: dict[int, tuple[Tensor, Tensor]] = {}

    def posterior(self, picture: Tensor) -> Tensor:
        """The mean, (1, C, h, w) float32, of a picture or a depth.

        (4, T, T) uint8 ARGB, straight alpha, not filled, or (1, T, T) float32 in [-1, 1].
        """
        with torch.autocast(picture.device.type, enabled=False):
            if picture.is_floating_point():
                return self._mean(picture.expand(3, -1, -1)[None])
            return self._mean(visible_colour(picture[None], self.transparent))

    def empty(self, size: int) -> tuple[Tensor, Tensor]:
        """Those of an absent layer of `size` px, black, and of its depth, all far; made once."""
        if size not in self._empty:
            device = self.vae.device
            nothing = torch.zeros(4, size, size, dtype=torch.uint8, device=device)
            far = torch.ones(1, size, size, device=device)
            self._empty[size] = self.posterior(nothing), self.posterior(far)
        return self._empty[size]

    def fingerprint(self) -> str:
        return weights_hash(f"mean {self.transparent}", (self.vae.encoder, self.vae.quant_conv))

    @torch.no_grad()
    def _mean(self, rgb: Tensor) -> Tensor:
        posterior: Any = self.vae.encode(rgb, return_dict=False)[0]
        return posterior.mean


class MarigoldTask(LatentDiffusionTask[MarigoldStageT], Generic[MarigoldStageT]):
    """Frozen autoencoder and the empty prompt around a UNet that denoises depth latents."""

    encoder: DepthEncoder

    def __init__(self, stage: MarigoldStageT, context: StageContext) -> None:
        base = context.path(stage.model.base)
        scheduler = open_base(base).require("scheduler")
        super().__init__(
            stage,
            context,
            data=stage.data,
            cache_latents=stage.data.cache_latents,
            diffusion=Diffusion(stage.objective, scheduler),
            encoder=DepthEncoder(load_vae(base), stage.data.transparent),
        )
        self.prompt = encode_empty_prompt(base, context.device)
        self.scheduler = load_scheduler(base)
        left = float(self.scheduler.alphas_cumprod[-1]) ** 0.5
        if stage.objective.noise == "zeros" and left > 1e-3:
            raise InputError(
                f"{scheduler}: {left:.3f} of depth is left at the last timestep, so it would show "
                "where zeros stand for noise: take a base with zero terminal SNR "
                "(rescale_betas_zero_snr), or set objective.noise to 'random'"
            )

    @abstractmethod
    def scene(self, model: nn.Module, item: Batch) -> Scene | None:
        """The frames of an item on the device, whose depth is measured and shown, if it has any."""

    def scenes(
        self, model: nn.Module, dataset: Any, purpose: str, count: int
    ) -> Iterator[tuple[Scene, np.random.Generator]]:
        """Of the first samples of a dataset a scene each, with what its noise follows from.

        In 3D it has the recipe's last group, which is that of all tags.
        """
        items = self.items(dataset)
        # They need the pixels, which what is stored comes without.
        items.store = None
        for row in range(min(count, len(items))):
            draw = self.fixed_draws(purpose, 0, row)[-1]
            item = readable(items, draw, self.data, self.context)
            moved: Any = send_to_device(item, self.context.device)
            scene = self.scene(model, moved)
            if scene is not None:
                yield scene, draw.numpy("depth")

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on held-out samples as every task's, and the measures of predicted depth."""
        losses = super().validate(model)
        if self.held_out is None:
            return losses
        return losses | measure(self, self.scenes(model, self.held_out, "depth", MEASURED))

    @cached_property
    def latent_channels(self) -> int:
        """Channels of the latents of a picture or a depth."""
        return int(self.encoder.vae.config["latent_channels"])

    def noise(self, draws: Sequence[Draw], shape: Sequence[int], timesteps: Tensor) -> Tensor:
        """Noise for depth latents (B, *shape) at the samples' timesteps, float32."""
        return depth_noise(draws, shape, self.stage.objective, timesteps, self.diffusion.count)

    def check_fit(
        self, folder: Path, config: Mapping[str, Any], in_channels: Sequence[int]
    ) -> None:
        """Raise InputError where a UNet's config doesn't fit what it is to see and to tell."""
        for key, allowed in (
            ("in_channels", in_channels),
            ("out_channels", [self.latent_channels]),
            ("cross_attention_dim", [self.prompt.shape[-1]]),
            ("addition_embed_type", [None]),
        ):
            if config.get(key) not in allowed:
                raise InputError(
                    f"{folder}: this UNet has {key}={config.get(key)!r}, but depth on this base "
                    f"needs {' or '.join(map(str, allowed))}: give one of Marigold, and the base "
                    "it belongs to"
                )

    def text(self, rows: int) -> Tensor:
        """The empty prompt for `rows` pictures, (rows, 2, width)."""
        return self.prompt.expand(rows, -1, -1)


class PageItems(PictureItems[DepthDataset2D]):
    """Items of pages and their depths, with the cells of the latents whose depth counts.

    An item has `cells` too, (h, w) bool: those wholly inside the mask; and their number, `count`.
    """

    def __init__(self, dataset: DepthDataset2D, store: LatentStore | None, factor: int) -> None:
        super().__init__(dataset, store)
        self.factor = factor

    def __getitem__(self, draw: Draw) -> Batch:
        item, shown = self.dataset.shown(draw)
        cells = latent_mask(shown["mask"][None], self.factor)[0, 0]
        return {**self.opened(item), "cells": cells, "count": int(cells.sum())}


class Marigold2D(MarigoldTask[Marigold2DTrain]):
    """The UNet on the latents of a page, beside the noisy latents of its depth.

    The loss is a mean over the cells whose depth counts, of the whole global batch: one without
    any has a loss of 0.
    """

    def make_dataset(self, data: Marigold2DData) -> DepthDataset2D:
        return page_depth_dataset(data, self.context, data.beyond)

    def items(self, dataset: DepthDataset2D) -> PageItems:
        factor = 2 ** (len(self.encoder.vae.config["block_out_channels"]) - 1)
        return PageItems(dataset, self.store, factor)

    def build(self) -> nn.Module:
        model = self.stage.model
        if model.unet is not None:
            folder = unet_folder(self.context.path(model.unet))
        else:
            folder = open_base(self.context.path(model.base)).require("unet")
        self.check_fit(folder, read_config(folder), [2 * self.latent_channels])
        return load_unet(UNet2DConditionModel, folder, dtype=torch.float32)

    def scene(self, model: nn.Module, item: Batch) -> Scene:
        argb, depth = item["pictures"][PAGE], item["pictures"][depth_of(PAGE)]
        page = self.encoder.scale * self.encoder.posterior(argb)

        def predict(latents: Tensor, timestep: int) -> Tensor:
            return model(
                torch.cat([page, latents], dim=1), timestep, self.text(1), return_dict=False
            )[0]

        return Scene(
            names=[PAGE],
            argb=argb[None],
            true=depth[None],
            places=[0],
            latents=page.shape,
            predict=predict,
        )

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Pages, their true depth, and the predicted one."""
        return {
            "samples": rows(self, self.scenes(model, self.layers, "pictures", SHOWN), columns=3)
        }

    def weight(self, batch: Batch) -> float:
        return sum(item["count"] for item in batch["items"])

    def loss_at(self, model: nn.Module, batch: Batch, timesteps: Tensor) -> Loss:
        draws: list[Draw] = batch["draw"]
        encoded = [self.posteriors(item) for item in batch["items"]]
        page, latents = (
            self.encoder.scale * torch.cat([posteriors[name] for posteriors in encoded])
            for name in (PAGE, depth_of(PAGE))
        )
        noise = self.noise(draws, latents.shape[1:], timesteps)
        noisy = self.diffusion.add_noise(latents, noise, timesteps)
        prediction = model(
            torch.cat([page, noisy], dim=1), timesteps, self.text(len(draws)), return_dict=False
        )[0]
        errors = self.diffusion.squared_errors(prediction, latents, noise, timesteps).mean(1)
        cells = torch.stack([item["cells"] for item in batch["items"]])
        weights = self.diffusion.weights(timesteps)
        return self.summed(
            (errors * cells).sum((1, 2)) * weights, cells.sum((1, 2)).float(), timesteps
        )


class Marigold3D(GroupwiseTask[Marigold3DTrain], MarigoldTask[Marigold3DTrain]):
    """The UNet across frames on the latents of a page and its layers, beside their noisy depths."""

    def __init__(self, stage: Marigold3DTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.groups = len(stage.data.groups)
        self.ngroup_iters = stage.data.ngroup_iters
        self.absent_weight = stage.objective.absent_weight

    def make_dataset(self, data: Marigold3DData) -> DepthDataset3D:
        return frame_depth_dataset(data, self.context)

    def build(self) -> GroupwiseUNet:
        folder = unet_folder(self.context.path(self.stage.model.unet))
        channels = self.latent_channels
        # A conversion has no channels for the page yet.
        self.check_fit(folder, read_config(folder), [2 * channels, 3 * channels])
        unet = load_unet(
            UNetFrameConditionModel,
            folder,
            in_channels=3 * channels,
            in_front=True,
            dtype=torch.float32,
        )
        return GroupwiseUNet(unet, folder)

    def latents(self, item: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled latents of an item: frames and depths (F, C, h, w) each, and page (1, C, h, w).

        The page is encoded once, although it is a condition and a frame.
        """
        absent, far = self.encoder.empty(self.stage.data.target_size)
        encoded = self.posteriors(item)
        names: list[str | None] = item["frames"]
        frames = [absent if name is None else encoded[name] for name in names]
        truth = [far if name is None else encoded[depth_of(name)] for name in names]
        scale = self.encoder.scale
        return scale * torch.cat(frames), scale * torch.cat(truth), scale * encoded[PAGE]

    def scene(self, model: nn.Module, item: Batch) -> Scene | None:
        """Without absent frames, and without the page, which repeats the layers."""
        frames, latents, page = self.latents(item)
        condition = torch.cat([page.expand_as(frames), frames], dim=1)
        group, text = item["group_index"], self.text(len(frames))

        def predict(latents: Tensor, timestep: int) -> Tensor:
            sample = torch.cat([condition, latents], dim=1)[None]
            arguments = {"sample": sample, "timestep": timestep, "encoder_hidden_states": text}
            return model([(group, arguments)])[0][0]

        places = {
            name: place for place, name in enumerate(item["frames"]) if name not in (None, PAGE)
        }
        if not places:
            return None
        return Scene(
            names=list(places),
            argb=torch.stack([item["pictures"][name] for name in places]),
            true=torch.stack([item["pictures"][depth_of(name)] for name in places]),
            places=list(places.values()),
            latents=latents.shape,
            predict=predict,
        )

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Of the layers of the first character with any: picture, true and predicted depth."""
        for drawn in self.scenes(model, self.layers, "pictures", SEARCHED):
            return {"samples": rows(self, [drawn], columns=6)}
        return {}

    def noised(self, items: list[Batch], timesteps: Tensor) -> Noised:
        encoded = [self.latents(item) for item in items]
        frames, latents, page = (torch.stack(parts) for parts in zip(*encoded, strict=True))
        noise = self.noise([item["draw"] for item in items], latents.shape[1:], timesteps)
        noisy = self.diffusion.add_noise(latents, noise, timesteps)
        weights = self.frame_weights(items)
        return Noised(
            arguments={
                "sample": torch.cat([page.expand_as(frames), frames, noisy], dim=2),
                "timestep": timesteps,
                "encoder_hidden_states": self.text(weights.numel()),
            },
            truth=(latents, noise, timesteps),
            weights=on_device(weights, latents.device),
        )
