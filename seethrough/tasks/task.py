"""The two things a stage can be: a function, or a task that the training loop drives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from seethrough.data.sample_list import read_sample_list
from seethrough.recipe import Source, Stage

StageT = TypeVar("StageT", bound=Stage)
Batch = dict[str, Any]


@attrs.frozen
class StageContext:
    """What the engine hands to a stage.

    `directory` is the stage's own folder under `runs/`. `paths` maps every `Source` that the
    stage names to a local file or folder that exists. `report` prints one line for a person, on
    the main process alone. `data_roots` are folders in which the entries of sample lists are
    looked up.
    """

    name: str
    directory: Path
    paths: Mapping[Source, Path]
    device: torch.device
    report: Callable[[str], None]
    is_main: bool = True
    data_roots: tuple[str, ...] = ()

    def path(self, source: Source) -> Path:
        """The local file or folder of a source."""
        return self.paths[source]

    def pages(self, source: Source) -> list[Path]:
        """The pages of a sample list, as `read_sample_list` finds them."""
        return read_sample_list(self.path(source), self.data_roots)


@attrs.frozen
class StageResult:
    """What a stage leaves: named files or folders inside its directory, and its metrics."""

    artifacts: dict[str, Path]
    metrics: dict[str, float] = attrs.field(factory=dict)


StageFunction = Callable[[Any, StageContext], StageResult]


@attrs.frozen
class ParameterGroup:
    """Parameters that share a learning rate: `lr` is the peak, `name` the label in the log."""

    name: str
    parameters: list[nn.Parameter]
    lr: float


@attrs.frozen
class Parts:
    """The loss by part of the samples, such as ranges of timesteps.

    `sums` and `counts` are (N,) float32, detached, on the loss's device: of each part the sum of
    what `Loss.total` adds up, and how many terms of the average these are. `names` are the same
    on every process and at every step. The log has a part's mean since the last line, and leaves
    out a part that nothing fell into.
    """

    names: tuple[str, ...]
    sums: Tensor
    counts: Tensor


@attrs.frozen
class Loss:
    """The loss of one micro-batch before division.

    `total` is the differentiable sum of the weighted terms, a float32 scalar. The loop divides
    it by the sum of `Task.weight` over the global batch. `terms` are detached sums of the
    single terms, logged after the same division; `parts`, where a family has them, split `total`
    by kind of sample. `shown` is what the opponent's loss of the same micro-batch takes from this
    forward pass, detached, where there is an opponent.
    """

    total: Tensor
    terms: dict[str, Tensor]
    parts: Parts | None = None
    shown: Any = None


class Task(ABC, Generic[StageT]):
    """One family's part of training; the loop, checkpoints and distribution are the engine's.

    Life: the constructor loads what is frozen, `build` makes the network to train, `prepare`
    is called once the network lies on its device. Every random number of a step comes from
    the draws in `batch["draw"]`, so a step is the same on any number of processes.
    """

    def __init__(self, stage: StageT, context: StageContext) -> None:
        self.stage = stage
        self.context = context

    @abstractmethod
    def build(self) -> nn.Module:
        """The network to train, in float32 on the CPU, the same on every process."""

    @abstractmethod
    def dataset(self) -> Dataset[Batch]:
        """Rows to draw from: `dataset[draw]` gives one item, `len(dataset)` the rows."""

    def sample_name(self, row: int) -> str:
        """What a person calls a row of the dataset, such as its file."""
        return f"row {row}"

    @abstractmethod
    def weight(self, batch: Batch) -> float:
        """How many terms the loss of this micro-batch averages over (host number, no sync)."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Forward pass and loss of a micro-batch; tensors of `batch` are on the device."""

    @abstractmethod
    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        """Write the trained weights as others read them; returns the named artifacts."""

    def opponent(self) -> nn.Module | None:
        """The network that is trained against that of `build`, such as a discriminator.

        In float32 on the CPU, the same on every process; None where `stage.opponent_optim` is. The
        task keeps it, as its own loss asks it; it is then on the device, and frozen by the task.
        """
        return None

    def opponent_loss(self, opponent: nn.Module, batch: Batch, first: Loss) -> Loss:
        """The opponent's loss of a micro-batch, over the same `weight`, after `first`, which is
        what `loss` returned for it."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Move frozen networks to the device and fill caches."""
        return

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """Parameters to train; what is left out is frozen before the optimizer is made."""
        return [ParameterGroup("all", list(model.parameters()), lr)]

    def collate(self, items: list[Batch]) -> Batch:
        """Stack tensors; keep everything else as lists, `draw` among them."""
        batch: Batch = {}
        for key, first in items[0].items():
            values = [item[key] for item in items]
            batch[key] = torch.stack(values) if isinstance(first, Tensor) else values
        return batch

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Metrics on held-out samples; empty when the family has none."""
        del model
        return {}

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Pictures for the tracker, by name."""
        del model
        return {}
