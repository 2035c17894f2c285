"""What all tasks share that denoise latents of pictures: items, latents, the loss, validation."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.recipes.layer_data import PictureData
from seethrough.recipes.training import TrainStage
from seethrough.tasks.datasets import held_out, readable
from seethrough.tasks.diffusion import Diffusion
from seethrough.tasks.latents import LatentStore, PictureEncoder, PictureItems
from seethrough.tasks.task import Batch, Loss, Parts, StageContext, Task

TrainStageT = TypeVar("TrainStageT", bound=TrainStage)

VALIDATION_PLACES = 64
"""Held-out items of each kind in a validation, each at a timestep of its own."""


class LatentDiffusionTask(Task[TrainStageT], Generic[TrainStageT]):
    """A frozen autoencoder around a UNet that denoises what it encodes."""

    def __init__(
        self,
        stage: TrainStageT,
        context: StageContext,
        *,
        data: PictureData,
        cache_latents: bool,
        diffusion: Diffusion,
        encoder: PictureEncoder,
    ) -> None:
        super().__init__(stage, context)
        self.data = data
        self.diffusion = diffusion
        self.encoder = encoder
        self.layers = self.make_dataset(data)
        validation = held_out(data)
        self.held_out = None if validation is None else self.make_dataset(validation)
        self.store: LatentStore | None = None
        if cache_latents:
            self.store = LatentStore(context.directory.parent / "latents", encoder.fingerprint())

    @abstractmethod
    def make_dataset(self, data: Any) -> Any:
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
        items = self.items(self.held_out)
        parts: list[Parts] = []
        for place, timestep in enumerate(self.diffusion.even_timesteps(VALIDATION_PLACES)):
            at = torch.tensor([timestep], device=self.context.device)
            for draw in self.fixed_draws("validation", place, place % len(items)):
                item = readable(items, draw, self.data, self.context)
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

    def items(self, dataset: Any) -> PictureItems[Any]:
        """What `loss` takes, of one of the family's datasets."""
        return PictureItems(dataset, self.store)

    def dataset(self) -> PictureItems[Any]:
        return self.items(self.layers)

    def sample_name(self, row: int) -> str:
        return str(self.layers.page_path(row))

    def prepare(self) -> None:
        self.encoder.to(self.context.device)

    def collate(self, items: list[Batch]) -> Batch:
        """Items stay apart: some hold pictures and some latents, and groups differ in frames."""
        return {"draw": [item["draw"] for item in items], "items": items}

    def posteriors(self, item: Batch) -> dict[str, Tensor]:
        """Posteriors of an item's pictures by name; what is encoded here goes to its place."""
        posteriors: dict[str, Tensor] = dict(item["posteriors"])
        for name, picture in item["pictures"].items():
            posteriors[name] = self.encoder.posterior(picture)
            if self.store is not None and name in item["places"]:
                self.store.write(item["places"][name], posteriors[name])
        return posteriors

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        model.save_pretrained(directory / "unet")  # pyright: ignore[reportCallIssue]
        return {"unet": directory / "unet"}
