"""Depth Anything V2: the depth of a page, or of a layer with a control, in one step."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate.utils import send_to_device
from PIL import Image
from torch import Tensor, nn

from seethrough.data.depth import DepthDataset2D
from seethrough.data.depth_control import CONTROL_CHANNELS, ControlledDepthDataset, nearness
from seethrough.data.draws import Draw
from seethrough.data.items import PAGE
from seethrough.errors import InputError
from seethrough.inference.grid import picture_grid
from seethrough.metrics.depth import DepthMetrics, align_least_squares
from seethrough.metrics.depth_losses import (
    affine_invariant_loss,
    gradient_matching_loss,
    scale_and_shift_invariant_loss,
    scale_invariant_log_loss,
)
from seethrough.models.depth_anything import DepthAnythingV2, find_encoder, network_image
from seethrough.models.depth_anything_adapter import unused_parameters, with_adapter
from seethrough.models.depth_anything_files import (
    AnyDepthAnything,
    load_adapter,
    load_depth_anything,
)
from seethrough.recipe import evolve
from seethrough.recipes.depth_anything import DepthAnythingAdapterTrain, DepthAnythingTrain
from seethrough.tasks.datasets import (
    controlled_depth_dataset,
    held_out,
    page_depth_dataset,
    readable,
)
from seethrough.tasks.latents import network_input
from seethrough.tasks.marigold_depths import MEASURED, SHOWN, depth_colours
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext, Task

StageT = TypeVar("StageT", bound=DepthAnythingTrain)

LEAST = 1e-3
"""What nearness is raised to where its logarithm is taken: the head may tell 0."""

LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gradient_matching": gradient_matching_loss,
    "affine_invariant": affine_invariant_loss,
    "scale_invariant_log": lambda found, true, mask: scale_invariant_log_loss(
        found.clamp(min=LEAST), true, mask
    ),
    "scale_and_shift_invariant": scale_and_shift_invariant_loss,
}
"""The terms by their names in the recipe."""


class DepthAnything(Task[StageT], Generic[StageT]):
    """The plain network, which tells nearness: the page's nearest 1, its background 0."""

    picture = PAGE
    """Name of the picture in an item."""

    def __init__(self, stage: StageT, context: StageContext) -> None:
        super().__init__(stage, context)
        self.samples = self.make_dataset(stage.data)
        validation = held_out(stage.data)
        self.measured = {} if validation is None else self.measured_datasets(validation)

    def make_dataset(self, data: Any) -> DepthDataset2D:
        """The pictures that a section like the stage's `data` describes."""
        return page_depth_dataset(data, self.context)

    def measured_datasets(self, validation: Any) -> Mapping[str, DepthDataset2D]:
        """The held-out pictures by what a measure's name begins with."""
        return {"depth": self.make_dataset(validation)}

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            network = self.make_network()
        side = self.stage.data.target_size
        patch = find_encoder(network.config["encoder"]).patch
        if side % patch:
            raise InputError(
                f"{self.context.name}.data.target_size: {side} is no multiple of {patch}, the side "
                "of this network's patches"
            )
        return network

    def make_network(self) -> AnyDepthAnything:
        """The network from its weights, or a new one."""
        if self.stage.model.weights is not None:
            return load_depth_anything(self.context.path(self.stage.model.weights))
        return self._new()

    def _new(self) -> DepthAnythingV2:
        model = self.stage.model
        encoder = {
            "width": model.width,
            "depth": model.depth,
            "heads": model.heads,
            "taps": [model.depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)],
            "patch": model.patch,
            "grid": self.stage.data.target_size // model.patch,
        }
        return DepthAnythingV2(encoder, model.features, model.out_channels)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """All that a forward pass reads."""
        unused = unused_parameters(model)
        chosen = [p for name, p in model.named_parameters() if name not in unused]
        return [ParameterGroup("all", chosen, lr)]

    def dataset(self) -> DepthDataset2D:
        return self.samples

    def sample_name(self, row: int) -> str:
        return str(self.samples.page_path(row))

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Nearness (B, 1, T, T) float32, at least 0."""
        return model(self.image(batch)).float()

    def image(self, batch: Batch) -> Tensor:
        """What the network sees of the pictures, transparent parts filled: (B, 3, T, T)."""
        return network_image(network_input(batch[self.picture])[:, 1:])

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        weights = self.stage.loss
        found, true, mask = self.predict(model, batch), nearness(batch["depth"]), batch["mask"]
        if weights.ignore_mask:
            mask = torch.ones_like(mask)
        if weights.scale_before_loss:
            found, true = scaled(found, mask), scaled(true, mask)
        samples = list(zip(found.split(1), true.split(1), mask.split(1), strict=True))
        terms = {
            name: torch.stack([loss(*sample) for sample in samples]).sum()
            for name, loss in LOSSES.items()
            if getattr(weights, name) > 0
        }
        total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The measures of depth on held-out pictures, for each way of alignment."""
        return {
            f"{kind}/{name}": value
            for kind, dataset in self.measured.items()
            for name, value in measure(
                lambda batch: self.predict(model, batch), self._batches(dataset, MEASURED)
            ).items()
        }

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of a picture, its true depth, and the predicted one in the true one's scale."""
        cells: list[Tensor] = []
        for batch in self._batches(self.samples, SHOWN):
            far = -self.predict(model, batch)[0].cpu()
            true, mask = batch["depth"][0].cpu(), batch["mask"][0].cpu()
            far = align_least_squares(far, true, mask)(far)
            cells.append(batch[self.picture][0, [1, 2, 3, 0]].cpu() / 255)
            cells += [depth_colours(depth, mask) for depth in (true, far)]
        return {"samples": picture_grid(cells, columns=3)}

    def _batches(self, dataset: DepthDataset2D, count: int) -> Iterator[Batch]:
        """The first samples of a dataset, one by one, on the device; the same at every step."""
        for row in range(min(count, len(dataset))):
            draw = Draw(seed=0, stage="validation", step=0, index=row, sample=row)
            item = readable(dataset, draw, self.stage.data, self.context)
            moved: Any = send_to_device(self.collate([item]), self.context.device)
            yield moved

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        folder = directory / "depth_anything"
        model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
        return {"depth_anything": folder}


class DepthAnythingAdapter(DepthAnything[DepthAnythingAdapterTrain]):
    """The network with its adapter, on pages without and on layers with a control."""

    picture = "picture"

    def make_dataset(self, data: Any) -> ControlledDepthDataset:
        return controlled_depth_dataset(data, self.context)

    def measured_datasets(self, validation: Any) -> Mapping[str, DepthDataset2D]:
        """All pages, and of all samples a layer where one has depth."""
        return {
            name: self.make_dataset(evolve(validation, control_probability=probability))
            for name, probability in (("depth", 0.0), ("controlled_depth", 1.0))
        }

    def make_network(self) -> AnyDepthAnything:
        model = self.stage.model
        if model.weights is not None:
            path = self.context.path(model.weights)
            return load_adapter(path, CONTROL_CHANNELS, model.control_widths)
        return with_adapter(self._new(), CONTROL_CHANNELS, model.control_widths)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """All that a forward pass reads, or the adapter alone."""
        if self.stage.model.learn == "all":
            return super().parameter_groups(model, lr)
        adapter: Any = model.get_submodule("head_adapter")
        return [ParameterGroup("adapter", list(adapter.parameters()), lr)]

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(self.image(batch), batch["control"]).float()


def scaled(depth: Tensor, mask: Tensor) -> Tensor:
    """Divide each sample of (B, 1, T, T) by its largest value in the mask."""
    largest = depth.masked_fill(~mask, 0).amax(dim=(1, 2, 3), keepdim=True)
    return depth / (largest + 1e-6)


def measure(predict: Callable[[Batch], Tensor], batches: Iterator[Batch]) -> dict[str, float]:
    """The measures of depth, averaged over batches of one, for each way of alignment.

    `predict` tells nearness (1, 1, T, T). A batch has `depth` and `mask`.
    """
    # One process measures: the others wouldn't come to a gathering.
    kinds = {
        "least_squares": DepthMetrics("least_squares", sync_on_compute=False),
        "median": DepthMetrics("median", sync_on_compute=False),
    }
    for batch in batches:
        # Large where it is far, as the truth.
        far = -predict(batch).cpu()
        for metrics in kinds.values():
            metrics.update(far, batch["depth"].cpu(), batch["mask"].cpu())
    return {
        f"{kind}/{name}": value
        for kind, metrics in kinds.items()
        if metrics.count
        for name, value in metrics.compute().items()
    }
