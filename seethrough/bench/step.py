"""The engine's training step against a bare loop of the same network, batch and optimizer."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from seethrough.bench.setting import SAMPLES, SIZES, made
from seethrough.bench.timing import Ratio, cpu_times, ratio
from seethrough.data.draws import Draw
from seethrough.engine.divergence import LossWatch
from seethrough.engine.execute import make_accelerator
from seethrough.engine.loop import TrainingRun
from seethrough.engine.optimizers import make_optimizer
from seethrough.engine.step_timer import StepTimer
from seethrough.engine.tracking import RunLog
from seethrough.tasks.layerdiff3d import LayerDiff3D
from seethrough.tasks.task import Batch

WARM_UP = SAMPLES + 2
"""Steps before measuring: after them all latents are on disk and the optimizer has its state."""


@attrs.frozen
class StepFigures:
    """What a step of each loop cost."""

    size: str
    """Name of the size."""
    parameters: int
    """Of the network."""
    pairs: int
    """Steps of each loop, in turn."""
    engine_cpu_s: float
    """Median CPU seconds of the engine's step."""
    bare_cpu_s: float
    """Median CPU seconds of the bare step."""
    engine_to_bare: Ratio
    """The engine's step in units of the bare one."""

    def text(self) -> str:
        """For a person."""
        return (
            f"{self.size}: {self.parameters / 1e6:.1f} million parameters, {self.pairs} pairs\n"
            f"engine  {self.engine_cpu_s:8.3f} CPU s a step\n"
            f"bare    {self.bare_cpu_s:8.3f}\n"
            f"engine to bare: {self.engine_to_bare}; of the sums {self.engine_to_bare.total:.3f}"
        )


class EngineLoop:
    """The engine's loop step by step: what `TrainingRun.fit` does between checkpoints."""

    def __init__(self, run: TrainingRun) -> None:
        schedule = run.stage.schedule
        self.run = run
        self.micro_batches = run._micro_batches(schedule.max_steps)
        self.watch = LossWatch(run.accelerator)
        self.timer = StepTimer(run.split.global_batch, run.accelerator.device)
        self.log = RunLog(run.stage, run.context, run.step)

    def take(self) -> list[Batch]:
        """The next step's micro-batches, of which a step here has one."""
        with self.timer.waiting():
            return [next(self.micro_batches)]

    def update(self, batches: list[Batch]) -> None:
        """An optimizer step, and now and then a line in the log."""
        rates = self.run.update(batches, self.watch)
        self.run.step += 1
        self.timer.steps += 1
        self.log.step()
        if self.run.step % self.run.stage.schedule.log_every == 0:
            self.run._log(self.log, self.watch, self.timer, rates)

    def step(self) -> None:
        """All that a step is."""
        self.update(self.take())


@contextmanager
def engine_loop(task: LayerDiff3D) -> Iterator[EngineLoop]:
    """The engine's loop over a task's stage."""
    accelerator = make_accelerator(task.stage, task.context)
    try:
        loop = EngineLoop(TrainingRun(task.stage, task, task.context, accelerator))
        yield loop
        loop.log.close()
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)


@attrs.frozen
class Prepared:
    """A batch of one group as the network takes it, on its device."""

    group: int
    arguments: dict[str, Any]
    """Of the UNet."""
    target: Tensor
    """(1, F, C, h, w): what the prediction is held to."""


class _Recorded(Exception):
    """Ends a call of the task once its network would be called."""


class _Recorder(nn.Module):
    """Stands where the network does, and remembers what it is called with."""

    def forward(self, calls: list[tuple[int, dict[str, Any]]]) -> None:
        ((self.group, self.arguments),) = calls
        raise _Recorded


@torch.no_grad()
def prepare(task: LayerDiff3D, batch: Batch) -> Prepared:
    """What the task would call its network with, and the noise that it should predict."""
    draws: list[Draw] = batch["draw"]
    recorder = _Recorder()
    with suppress(_Recorded):
        task.loss(recorder, batch)
    noisy, _ = recorder.arguments["sample"].chunk(2, dim=2)
    target = task.noise(draws, noisy.shape[1:])
    return Prepared(recorder.group, recorder.arguments, target)


class BareLoop:
    """The least that trains the same network: no data, no randomness, no log."""

    def __init__(self, task: LayerDiff3D, gradient_checkpointing: bool = False) -> None:
        optim = task.stage.optim
        assert optim.max_grad_norm is not None
        self.network = task.build().train()
        if gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        groups = task.parameter_groups(self.network, optim.lr)
        self.optimizer: Optimizer = make_optimizer(optim, groups)
        self.max_grad_norm = optim.max_grad_norm

    def step(self, batch: Prepared) -> None:
        """Forward, mean squared error, backward, clipping, optimizer."""
        unet = self.network.unet
        prediction = unet(**batch.arguments, group_index=batch.group, return_dict=False)[0]
        functional.mse_loss(prediction, batch.target).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def measure_step(size: str, pairs: int) -> StepFigures:
    """Steps of both loops in turn; the bare one always has the engine's first batch."""
    with made(SIZES[size], WARM_UP + pairs) as task, engine_loop(task) as engine:
        bare = BareLoop(task)
        batches = engine.take()
        prepared = prepare(task, batches[0])
        engine.update(batches)
        bare.step(prepared)
        for _ in range(WARM_UP - 1):
            engine.step()
            bare.step(prepared)
        works = {"engine": engine.step, "bare": lambda: bare.step(prepared)}
        times = cpu_times(works, pairs)
        return StepFigures(
            size=size,
            parameters=sum(parameter.numel() for parameter in bare.network.parameters()),
            pairs=pairs,
            engine_cpu_s=statistics.median(times["engine"]),
            bare_cpu_s=statistics.median(times["bare"]),
            engine_to_bare=ratio(times["engine"], times["bare"]),
        )
