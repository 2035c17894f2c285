"""What LayerDiff's 2D and 3D tasks share: frozen networks, text, latents and the objective."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.models.checkpoints import open_base
from seethrough.models.text_table import TextTable, encode_captions
from seethrough.recipes.layerdiff import LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.tasks.datasets import held_out, readable
from seethrough.tasks.diffusion import Diffusion, with_probability
from seethrough.tasks.latents import (
    LatentEncoder,
    LatentStore,
    PictureItems,
    encoder_fingerprint,
    load_transparent_vae,
    load_vae,
)
from seethrough.tasks.task import Batch, Loss, Parts, StageContext, Task
from seethrough.tasks.transfer import on_device

LayerDiffStageT = TypeVar("LayerDiffStageT", LayerDiff2DTrain, LayerDiff3DTrain)

VALIDATION_PLACES = 64
"""Held-out items of each kind in a validation, each at a timestep of its own."""

TEXT_ON_DEVICE = 2**30
"""Bytes of text embeddings that the device holds at most. Those of the tags are some 16 MB; those
of many caption files stay on the host."""


class LayerDiffTask(Task[LayerDiffStageT], Generic[LayerDiffStageT]):
    """Frozen autoencoder, offset encoder and text embeddings around a UNet."""

    def __init__(self, stage: LayerDiffStageT, context: StageContext) -> None:
        super().__init__(stage, context)
        model = stage.model
        base = context.path(model.base)
        self.diffusion = Diffusion(stage.objective, open_base(base).require("scheduler"))
        self.vae = load_vae(base)
        self.transparent_vae = load_transparent_vae(context.path(model.transparent_vae))
        self.encoder = LatentEncoder(self.vae, self.transparent_vae, stage.objective)
        self.layers = self.make_dataset(stage.data)
        validation = held_out(stage.data)
        self.held_out = None if validation is None else self.make_dataset(validation)
        captions = {*self.layers.captions(), ""}
        captions.update(() if self.held_out is None else self.held_out.captions())
        # Encoded once, and the encoders are gone before the UNet comes.
        self.text = encode_captions(base, sorted(captions), context.device)
        side = float(stage.data.target_size)
        # Original size, top left corner, target size. Made once: a copy to the device at each
        # step would wait for it.
        self.time_ids = torch.tensor([[side, side, 0.0, 0.0, side, side]], device=context.device)
        self.store: LatentStore | None = None
        if stage.data.cache_latents:
            folder = context.directory.parent / "latents"
            self.store = LatentStore(folder, encoder_fingerprint(self.encoder))

    @abstractmethod
    def make_dataset(self, data: Any) -> LayerDiff2DDataset | LayerDiff3DDataset:
        """The family's dataset of pictures, from a section like the stage's `data`."""

    @abstractmethod
    def loss_at(self, model: nn.Module, batch: Batch, timesteps: Tensor) -> Loss:
        """Forward pass and loss of a micro-batch at given timesteps, (B,) int64."""

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        draws: list[Draw] = batch["draw"]
        return self.loss_at(model, batch, self.diffusion.timesteps(draws, self.context.device))

    def summed(self, errors: Tensor, counts: Tensor, timesteps: Tensor) -> Loss:
        """The loss from each sample's weighted terms (B,), their number (B,), and timestep."""
        total = errors.sum()
        parts = self.diffusion.quarters(errors, counts, timesteps)
        return Loss(total, {"latent": total.detach()}, parts)

    def fixed_draws(self, purpose: str, place: int, row: int) -> list[Draw]:
        """Draws of one sample, the same at every step and in every run: one for each kind of item.

        None of them is a draw of training.
        """
        return [Draw(seed=0, stage=purpose, step=0, index=place, sample=row)]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on held-out samples, whole and by quarter of the timesteps.

        Always of the same items, with the same noise, at timesteps spread evenly: values of
        different steps, and of runs with the same objective, compare.
        """
        if self.held_out is None:
            return {}
        items = PictureItems(self.held_out, self.store)
        parts: list[Parts] = []
        for place, timestep in enumerate(self.diffusion.even_timesteps(VALIDATION_PLACES)):
            at = torch.tensor([timestep], device=self.context.device)
            for draw in self.fixed_draws("validation", place, place % len(items)):
                item = readable(items, draw, self.stage.data, self.context)
                batch: Any = send_to_device(self.collate([item]), self.context.device)
                loss = self.loss_at(model, batch, at)
                assert loss.parts is not None
                parts.append(loss.parts)
        sums = torch.stack([part.sums for part in parts]).sum(0).tolist()
        counts = torch.stack([part.counts for part in parts]).sum(0).tolist()
        of_names = zip(parts[0].names, sums, counts, strict=True)
        means = {f"loss/{name}": value / count for name, value, count in of_names if count > 0}
        # Nothing counts where absent frames weigh nothing and there are no others.
        return {"loss": sum(sums) / sum(counts), **means} if means else {}

    def dataset(self) -> PictureItems:
        return PictureItems(self.layers, self.store)

    def sample_name(self, row: int) -> str:
        return str(self.layers.page_path(row))

    def prepare(self) -> None:
        for network in (self.vae, self.transparent_vae):
            nn.Module.to(network, self.context.device)
        if self.text.nbytes <= TEXT_ON_DEVICE:
            self.text: TextTable = self.text.to(self.context.device)

    def collate(self, items: list[Batch]) -> Batch:
        """Items stay apart: some hold pictures and some latents, and groups differ in frames."""
        return {"draw": [item["draw"] for item in items], "items": items}

    def latents(self, item: Batch) -> Tensor:
        """Scaled latents (F + K, C, h, w) of an item's frames, then of its conditions.

        What was encoded here goes to the store, if there is one.
        """
        posteriors: dict[str, Tensor] = dict(item["posteriors"])
        for name, picture in item["pictures"].items():
            posteriors[name] = self.encoder.posterior(picture)
            if self.store is not None:
                self.store.write(item["places"][name], posteriors[name])
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

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        model.save_pretrained(directory / "unet")  # pyright: ignore[reportCallIssue]
        return {"unet": directory / "unet"}
