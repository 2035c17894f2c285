"""The training loop: every family and every size of machine goes through it."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer

from seethrough.data.draws import Draw
from seethrough.engine.checkpoint import (
    checkpoint_step,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from seethrough.engine.divergence import LossWatch
from seethrough.engine.ema import Average
from seethrough.engine.loader import MicroBatches, Split, make_loader
from seethrough.engine.optimizers import make_optimizer, set_learning_rates
from seethrough.engine.schedules import lr_share
from seethrough.engine.tracking import RunLog
from seethrough.errors import InputError
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import Batch, StageContext, StageResult, Task


def train(
    stage: TrainStage, task: Task[Any], context: StageContext, accelerator: Accelerator
) -> StageResult:
    """Train to `schedule.max_steps`, from the latest checkpoint if there is one."""
    run = TrainingRun(stage, task, context, accelerator)
    run.restore()
    run.fit()
    return run.finish()


class TrainingRun:
    """The state of one stage's training on one process."""

    def __init__(
        self, stage: TrainStage, task: Task[Any], context: StageContext, accelerator: Accelerator
    ) -> None:
        self.stage = stage
        self.task = task
        self.context = context
        self.accelerator = accelerator
        self.checkpoints = context.directory / "checkpoints"
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.split = _split(stage, accelerator)

        self.network = self._network()
        groups = task.parameter_groups(self.network, stage.optim.lr)
        trained = {id(parameter) for group in groups for parameter in group.parameters}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self.network.to(accelerator.device)
        self.average = (
            Average(self.network.parameters(), stage.optim.ema_decay)
            if stage.optim.ema_decay is not None
            else None
        )
        optimizer = make_optimizer(stage.optim, groups)
        self.model: nn.Module
        self.optimizer: Optimizer
        self.model, self.optimizer = accelerator.prepare(self.network, optimizer)
        task.prepare(self.network)

    def _network(self) -> nn.Module:
        network = self.task.build()
        network.train()
        if self.stage.hardware.gradient_checkpointing:
            if not hasattr(network, "enable_gradient_checkpointing"):
                raise InputError(
                    f"{self.context.name}.hardware.gradient_checkpointing: "
                    f"{type(network).__name__} has no checkpoint units: set it to false"
                )
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        if self.stage.hardware.channels_last:
            nn.Module.to(network, memory_format=torch.channels_last)
        if self.stage.hardware.compile:
            network.compile()
        return network

    def restore(self) -> None:
        """Continue from the newest complete checkpoint."""
        path = latest_checkpoint(self.checkpoints)
        if path is None:
            return
        parts = load_checkpoint(path)
        self.network.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        if self.average is not None:
            self.average.load(parts["average"])
        if self.accelerator.scaler is not None and "scaler" in parts:
            self.accelerator.scaler.load_state_dict(parts["scaler"])
        self.step = checkpoint_step(path)
        self.context.report(f"{self.context.name}: resumed after step {self.step} from {path}")

    def save(self) -> None:
        """Write a checkpoint of the current step; every process waits for it."""
        if self.accelerator.is_main_process:
            parts: dict[str, Any] = {
                "model": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            if self.average is not None:
                parts["average"] = self.average.state()
            if self.accelerator.scaler is not None:
                parts["scaler"] = self.accelerator.scaler.state_dict()
            save_checkpoint(
                self.checkpoints, self.step, parts, self.stage.schedule.keep_checkpoints
            )
        self.accelerator.wait_for_everyone()

    def fit(self) -> None:
        """Optimizer steps up to the end, with checkpoints, validation and pictures."""
        schedule = self.stage.schedule
        log = RunLog(self.accelerator, self.context.directory, self.step, schedule.max_steps)
        watch = LossWatch(self.accelerator)
        timer = StepTimer(self.split.global_batch, self.accelerator.device)
        micro_batches = self._micro_batches(schedule.max_steps)
        try:
            while self.step < schedule.max_steps:
                with timer.waiting():
                    batches = [next(micro_batches) for _ in range(self.split.accumulation)]
                grad_norm, rates = self._update(batches, watch)
                self.step += 1
                timer.steps += 1
                log.step()
                due_checkpoint = self._due(schedule.checkpoint_every)
                if self._due(schedule.log_every) or due_checkpoint:
                    losses = watch.means()
                    watch.check_norm(self.step, grad_norm)
                    numbers = {**losses, **rates, "grad_norm": float(grad_norm), **timer.read()}
                    log.numbers(self.step, numbers)
                    self.metrics.update({key: numbers[key] for key in losses})
                if self._due(schedule.validate_every):
                    self._validate(log)
                if self._due(schedule.pictures_every):
                    self._pictures(log)
                if due_checkpoint:
                    self.save()
        finally:
            log.close()

    def finish(self) -> StageResult:
        """Export the trained weights (their average, when one is kept)."""
        artifacts: dict[str, Path] = {}
        if self.accelerator.is_main_process:
            with self._shown_weights():
                artifacts = self.task.export(self.network, self.context.directory)
        self.accelerator.wait_for_everyone()
        return StageResult(artifacts=artifacts, metrics=self.metrics)

    def _update(
        self, batches: list[Batch], watch: LossWatch
    ) -> tuple[Tensor, dict[str, float]]:
        """One optimizer step over this process's micro-batches of the global batch."""
        world = self.accelerator.num_processes
        weight = self._global_weight(batches)
        for number, batch in enumerate(batches):
            draws: list[Draw] = batch["draw"]
            # Dropout, if the network has any, follows from the first draw of the micro-batch.
            torch.manual_seed(draws[0].torch("network").initial_seed())
            last = number == len(batches) - 1
            sync = contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)
            with sync:
                moved: Any = send_to_device(batch, self.accelerator.device, non_blocking=True)
                with self.accelerator.autocast():
                    loss = self.task.loss(self.model, moved)
                # Data parallelism averages over processes; the loss is a global sum / weight.
                self.accelerator.backward(loss.total * (world / weight))
            watch.add(self.step, draws, loss, weight)
        rates = set_learning_rates(self.optimizer, lr_share(self.stage.schedule, self.step))
        grad_norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.step + 1)
        return grad_norm, {f"lr/{name}": rate for name, rate in rates.items()}

    def _global_weight(self, batches: list[Batch]) -> Tensor:
        """Terms that the loss averages over in the whole global batch, on the device."""
        own = sum(self.task.weight(batch) for batch in batches)
        total = torch.tensor(own, dtype=torch.float32, device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(total)
        # A batch without any term has a loss of 0, not of 0 / 0.
        return total.clamp_min(1e-12)

    def _clip(self) -> Tensor:
        limit = self.stage.optim.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), float("inf") if limit is None else limit
        )
        assert isinstance(norm, Tensor)
        return norm

    def _micro_batches(self, stop: int) -> Iterator[Batch]:
        dataset = self.task.dataset()
        rows = len(dataset)  # type: ignore[arg-type]
        batches = MicroBatches(
            self.stage.seed, self.context.name, rows, self.split, self.step, stop
        )
        workers = self.stage.hardware.loader_workers
        return iter(make_loader(self.task, dataset, batches, workers, self.accelerator.device))

    def _due(self, every: int | None) -> bool:
        if every is None:
            return False
        return self.step % every == 0 or self.step == self.stage.schedule.max_steps

    @contextlib.contextmanager
    def _shown_weights(self) -> Iterator[None]:
        """The network as it is exported: averaged weights, evaluation mode."""
        self.network.eval()
        with self.average.applied() if self.average else contextlib.nullcontext():
            yield
        self.network.train()

    def _validate(self, log: RunLog) -> None:
        if self.accelerator.is_main_process:
            with self._shown_weights(), torch.no_grad():
                values = self.task.validate(self.network)
            self.metrics.update(values)
            if values:
                log.numbers(self.step, {f"validation/{key}": v for key, v in values.items()})
        self.accelerator.wait_for_everyone()

    def _pictures(self, log: RunLog) -> None:
        if self.accelerator.is_main_process:
            with self._shown_weights(), torch.no_grad():
                log.pictures(self.step, self.task.pictures(self.network))
        self.accelerator.wait_for_everyone()


class StepTimer:
    """Speed, memory and the share of time spent waiting for data, since the last reading."""

    def __init__(self, global_batch: int, device: torch.device) -> None:
        self.global_batch = global_batch
        self.device = device
        self.steps = 0
        self.waited = 0.0
        self.since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside counts as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Numbers since the last call: samples/s (global), waiting share, peak memory in GiB."""
        now = time.perf_counter()
        elapsed = max(now - self.since, 1e-9)
        values = {
            "samples_per_second": self.steps * self.global_batch / elapsed,
            "data_wait_share": self.waited / elapsed,
            "peak_memory_gib": _peak_memory(self.device) / 2**30,
        }
        self.steps, self.waited, self.since = 0, 0.0, now
        return values


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of the allocator on CUDA, of the process (RSS) on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _split(stage: TrainStage, accelerator: Accelerator) -> Split:
    world = accelerator.num_processes
    share = world * stage.hardware.micro_batch
    if stage.data.global_batch % share:
        raise InputError(
            f"data.global_batch={stage.data.global_batch} doesn't split over {world} processes x "
            f"hardware.micro_batch={stage.hardware.micro_batch}: change one of them"
        )
    return Split(
        global_batch=stage.data.global_batch,
        micro_batch=stage.hardware.micro_batch,
        rank=accelerator.process_index,
        world=world,
    )
