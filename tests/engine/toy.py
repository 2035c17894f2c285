"""A family as small as one can be: a multilayer perceptron on rows of numbers.

It goes through the engine like the others, and imports nothing but torch and numpy.
"""

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.recipe import (
    Execution,
    Experiment,
    NonNegativeFloat,
    Output,
    PositiveInt,
    Source,
    Stage,
    recipe,
)
from seethrough.recipes.training import (
    AdamW,
    AnyOptim,
    Data,
    Device,
    Hardware,
    Schedule,
    Tracking,
    TrainStage,
)
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext, StageResult, Task

INPUTS = 8


@recipe
class Rows(Stage):
    """Writes rows of numbers."""

    implementation: ClassVar[str] = "tests.engine.toy:write_rows"
    outputs: ClassVar[tuple[str, ...]] = ("rows",)

    count: PositiveInt = 20
    """How many."""

    scale: Source | None = None
    """A file with a number to multiply them with."""

    hardware: Execution[Device] = Device(device="cpu")
    """Where."""


@recipe
class Perceptron(TrainStage):
    """Trains a perceptron on the rows."""

    implementation: ClassVar[str] = "tests.engine.toy:PerceptronTask"
    outputs: ClassVar[tuple[str, ...]] = ("weights",)

    data: Data = Data(sources=((Output("rows", "rows"), 1),), global_batch=8)
    """All rows."""

    optim: AnyOptim = AdamW(lr=1e-2, precision="fp32")
    """Optimizer."""

    schedule: Schedule = Schedule(
        max_steps=6, warmup_steps=1, checkpoint_every=2, pictures_every=None
    )
    """A few steps."""

    hardware: Execution[Hardware] = Hardware(
        device="cpu", micro_batch=2, loader_workers=0, threads=1
    )
    """One thread."""

    tracking: Execution[Tracking] = Tracking(tracker=None)
    """Nothing but the log."""

    width: PositiveInt = 16
    """Width of the hidden layers."""

    weighted: bool = False
    """Weigh samples differently, some not at all."""

    nan_step: int | None = None
    """Step at which row 3 has a loss that is not a number."""

    nan_gradient_step: int | None = None
    """Step at which the gradient is not a number although the loss is one."""

    bad_row: int | None = None
    """A row that can't be read."""

    bug_row: int | None = None
    """A row on which the code fails."""

    pause: Execution[NonNegativeFloat] = 0.0
    """Seconds that each micro-batch takes longer."""


@recipe
class Total(Stage):
    """Adds up the trained weights."""

    implementation: ClassVar[str] = "tests.engine.toy:add_up"
    outputs: ClassVar[tuple[str, ...]] = ("total", "count")

    weights: Source = Output("train", "weights")
    """The trained weights."""


def write_rows(stage: Rows, context: StageContext) -> StageResult:
    """Rows that follow from their count."""
    scale = 1.0 if stage.scale is None else float(context.path(stage.scale).read_text())
    rows = scale * np.random.default_rng(0).standard_normal((stage.count, INPUTS))
    with (context.directory / "runs.txt").open("a") as file:
        file.write("ran\n")
    np.save(context.directory / "rows.npy", rows.astype(np.float32))
    return StageResult({"rows": context.directory / "rows.npy"}, {"rows": float(stage.count)})


def add_up(stage: Total, context: StageContext) -> StageResult:
    """The sum of all bytes, in one file a number."""
    content = context.path(stage.weights).read_bytes()
    for name, number in (("total", sum(content)), ("count", len(content))):
        (context.directory / name).write_text(str(number))
    return StageResult({name: context.directory / name for name in ("total", "count")})


class Layers(nn.Module):
    """Hidden layers of unequal size, so that gradients come in many shapes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [INPUTS, width, 2 * width, width, 1]
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
        self.recompute = False
        self.unit_calls = 0

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the hidden layers in the backward pass."""
        self.recompute = True

    def unit(self, values: torch.Tensor) -> torch.Tensor:
        """The hidden layers."""
        self.unit_calls += 1
        for layer in self.layers[:-1]:
            values = torch.tanh(layer(values))
        return values

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N, 8) rows to (N,) predictions."""
        if self.recompute:
            hidden: Any = checkpoint(self.unit, values, use_reentrant=False)
        else:
            hidden = self.unit(values)
        return self.layers[-1](hidden)[:, 0]


class RowsWithNoise(Dataset[Batch]):
    """Rows with the draw's noise, and their mean as target."""

    def __init__(self, stage: Perceptron, path: Path) -> None:
        self.stage = stage
        self.path = path
        self.rows = torch.from_numpy(np.load(path))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Batch:
        if draw.sample == self.stage.bad_row:
            raise InputError(f"{self.path}: row {draw.sample} can't be read: mend it")
        if draw.sample == self.stage.bug_row:
            raise RuntimeError(f"a bug at row {draw.sample}")
        noise = draw.numpy("noise").standard_normal(INPUTS, dtype=np.float32)
        row = self.rows[draw.sample]
        return {"draw": draw, "row": row + 0.1 * torch.from_numpy(noise), "target": row.mean()}


class PerceptronTask(Task[Perceptron]):
    """Weighted squared error."""

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed)
            self.network = Layers(self.stage.width)
        return self.network

    def dataset(self) -> RowsWithNoise:
        source, _ = self.stage.data.sources[0]
        return RowsWithNoise(self.stage, self.context.path(source))

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        assert isinstance(model, Layers)
        first, *others = model.layers
        rest = [parameter for layer in others for parameter in layer.parameters()]
        return [
            ParameterGroup("first", list(first.parameters()), 0.5 * lr),
            ParameterGroup("others", rest, lr),
        ]

    def weights(self, draws: list[Draw]) -> list[float]:
        """Weight of each sample's term."""
        return [float(draw.sample % 3) if self.stage.weighted else 1.0 for draw in draws]

    def weight(self, batch: Batch) -> float:
        return sum(self.weights(batch["draw"]))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        draws: list[Draw] = batch["draw"]
        time.sleep(self.stage.pause)
        prediction = model(batch["row"]).float()
        error = (prediction - batch["target"]) ** 2
        if any((d.step, d.sample % 5) == (self.stage.nan_step, 3) for d in draws):
            error = error * float("nan")
        if draws[0].step == self.stage.nan_gradient_step:
            error = error + torch.sqrt(0.0 * prediction)  # 0, with an infinite slope times 0
        total = (error * torch.tensor(self.weights(draws))).sum()
        return Loss(total, {"squared": total.detach()})

    def validate(self, model: nn.Module) -> dict[str, float]:
        dataset = self.dataset()
        assert not model.training
        predicted = model(dataset.rows)
        return {"error": float(((predicted - dataset.rows.mean(1)) ** 2).mean())}

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        values = model(self.dataset().rows).float().numpy()
        grey = (255 * (values - values.min()) / np.ptp(values)).astype(np.uint8)
        return {"predictions": Image.fromarray(np.repeat(grey.reshape(4, 5), 8, 0)).convert("RGB")}

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        save_file(model.state_dict(), directory / "weights.safetensors")
        return {"weights": directory / "weights.safetensors"}


@recipe
class Toy(Experiment):
    """Rows, a perceptron, a sum."""

    rows: Rows = Rows()
    """Data."""

    train: Perceptron = Perceptron()
    """Training."""

    total: Total = Total()
    """What is made of it."""
