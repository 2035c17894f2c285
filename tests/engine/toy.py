"""A family as small as one can be: a multilayer perceptron on rows of numbers.

It goes through the engine like the others, and imports nothing but torch and numpy.
"""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.tasks.task import (
    Batch,
    Loss,
    ParameterGroup,
    Parts,
    StageContext,
    StageResult,
    Task,
)
from tests.engine.chain import Perceptron, Rows, Total

INPUTS = 8


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
        pairs = itertools.pairwise(sizes)
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
        weights = torch.tensor(self.weights(draws))
        terms = error * weights
        # Of 20 rows none is in the last part.
        inside = torch.tensor([[draw.sample // 8 == part for draw in draws] for part in range(4)])
        parts = Parts(
            ("rows-00-07", "rows-08-15", "rows-16-23", "rows-24-31"),
            (terms.detach() * inside).sum(1),
            (weights * inside).sum(1),
        )
        return Loss(terms.sum(), {"squared": terms.sum().detach()}, parts)

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
