"""What LayerDiff's 2D and 3D tasks share: frozen networks, text, latents and the objective."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.models.checkpoints import open_base
from seethrough.models.text_table import TextTable, encode_captions
from seethrough.recipes.layerdiff import LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.tasks.diffusion import Diffusion, with_probability
from seethrough.tasks.latent_diffusion import LatentDiffusionTask
from seethrough.tasks.latents import LatentEncoder, load_transparent_vae, load_vae
from seethrough.tasks.layerdiff_prediction import Network
from seethrough.tasks.layerdiff_scores import measure_layers
from seethrough.tasks.noise import offset_noise
from seethrough.tasks.task import Batch, StageContext
from seethrough.tasks.transfer import on_device

LayerDiffStageT = TypeVar("LayerDiffStageT", LayerDiff2DTrain, LayerDiff3DTrain)

TEXT_ON_DEVICE = 2**30
"""Bytes of text embeddings that the device holds at most. Those of the tags are some 16 MB; those
of many caption files stay on the host."""


class LayerDiffTask(LatentDiffusionTask[LayerDiffStageT], Generic[LayerDiffStageT]):
    """Frozen autoencoder, offset encoder and text embeddings around a UNet."""

    encoder: LatentEncoder
    layers: LayerDiff2DDataset | LayerDiff3DDataset
    held_out: LayerDiff2DDataset | LayerDiff3DDataset | None

    def __init__(self, stage: LayerDiffStageT, context: StageContext) -> None:
        model, objective = stage.model, stage.objective
        base = context.path(model.base)
        scheduler = open_base(base).require("scheduler")
        self.vae = load_vae(base)
        self.transparent_vae = load_transparent_vae(context.path(model.transparent_vae))
        super().__init__(
            stage,
            context,
            data=stage.data,
            cache_latents=stage.data.cache_latents,
            diffusion=Diffusion(objective, scheduler, objective.prediction_type),
            encoder=LatentEncoder(self.vae, self.transparent_vae, objective),
        )
        captions = {*self.layers.captions(), ""}
        captions.update(() if self.held_out is None else self.held_out.captions())
        # Encoded once, and the encoders are gone before the UNet comes.
        self.text = encode_captions(base, sorted(captions), context.device)
        side = float(stage.data.target_size)
        # Original size, top left corner, target size. Made once: a copy to the device at each
        # step would wait for it.
        self.time_ids = torch.tensor([[side, side, 0.0, 0.0, side, side]], device=context.device)

    @abstractmethod
    def make_dataset(self, data: Any) -> LayerDiff2DDataset | LayerDiff3DDataset:
        """The family's dataset of pictures, from a section like the stage's `data`."""

    @abstractmethod
    def networks(self, model: nn.Module) -> list[Network]:
        """What denoises each kind of item, in the order of `fixed_draws`."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The losses, and the measures of layers that are denoised from noise."""
        losses = super().validate(model)
        if self.held_out is None:
            return losses
        return losses | measure_layers(self, self.networks(model))

    def prepare(self) -> None:
        super().prepare()
        if self.text.nbytes <= TEXT_ON_DEVICE:
            self.text: TextTable = self.text.to(self.context.device)

    def noise(self, draws: Sequence[Draw], shape: Sequence[int]) -> Tensor:
        """Noise for latents (B, *shape), float32, on the device."""
        offset = self.stage.objective.noise_offset
        return offset_noise(draws, shape, offset, self.context.device)

    def latents(self, item: Batch) -> Tensor:
        """Scaled latents (F + K, C, h, w) of an item's frames, then of its conditions."""
        posteriors = self.posteriors(item)
        size = self.stage.data.target_size
        stacked = torch.stack(
            [
                self.encoder.empty(size) if name is None else posteriors[name]
                for name in [*item["frames"], *item["conditions"]]
            ]
        )
        return self.encoder.sample(stacked, item["draw"])

    def dropped(self, captions: Sequence[list[str]], draws: Sequence[Draw]) -> list[list[str]]:
        """Captions (B, F) as a step sees them: all empty where the sample's draw says so."""
        probability = self.stage.objective.empty_prompt_probability
        drops = with_probability(draws, "empty prompt", probability)
        return [[""] * len(row) if drop else row for row, drop in zip(captions, drops, strict=True)]

    def text_conditions(
        self, captions: Sequence[Sequence[str]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states (B * F, 77, width), pooled embeddings and time ids of captions (B, F)."""
        flat = [caption for row in captions for caption in row]
        rows = on_device(self.text.rows(flat), self.text.hidden.device)
        device = self.context.device
        return on_device(self.text.hidden[rows], device), {
            "text_embeds": on_device(self.text.pooled[rows], device),
            "time_ids": self.time_ids.expand(len(flat), -1),
        }
