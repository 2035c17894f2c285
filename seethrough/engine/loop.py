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
from accelerate.utils import broadcast_object_list, send_to_device
from torch import Tensor, nn
from torch.optim import Optimizer

from seethrough.data.draws import Draw
from seethrough.engine.checkpoint import (
    checkpoint_step,
    complete_checkpoints,
    latest_good_checkpoint,
    load_checkpoint,
    save_checkpoint,
    sweep,
)
from seethrough.engine.divergence import DivergenceError, LossWatch
from seethrough.engine.ema import Average
from seethrough.engine.loader import MicroBatches, Split, load_batches
from seethrough.engine.optimizers import make_optimizer, set_learning_rates
from seethrough.engine.schedules import lr_share
from seethrough.engine.tracking import RunLog
from seethrough.errors import InputError
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import Batch, StageContext, StageResult, Task


def train(
    stage: TrainStage, task: Task[Any], context: StageContext, accelerator: Accelerator
) -> tuple[StageResult, float]:
    """Train to `schedule.max_steps`, from the latest good checkpoint if there is one.

    Returns the result and the seconds that earlier sessions put into it.
    """
    run = TrainingRun(stage, task, context, accelerator)
    run.restore()
    earlier = run.seconds
    run.fit()
    return run.finish(), earlier


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
        self.seconds = 0.0
        """Of earlier sessions, up to the checkpoint that this one resumed from."""
        self.started = time.perf_counter()
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
        """Continue from the newest good checkpoint, which the main process chooses."""
        path = None
        if self.accelerator.is_main_process:
            sweep(self.checkpoints, self.stage.schedule.keep_checkpoints)
            path = latest_good_checkpoint(self.checkpoints, self.context.report)
        path = broadcast_object_list([path])[0]
        if path is None:
            return
        self._load(path)
        self.context.report(f"{self.context.name}: resumed after step {self.step} from {path}")

    def _load(self, path: Path) -> None:
        parts = load_checkpoint(path)
        progress = parts.pop("progress")
        own = {name: type(part).__name__ for name, part in self._parts().items()}
        if progress["parts"] != own:
            raise InputError(
                f"{path}: holds {progress['parts']}, but the recipe asks for {own}: go back to the "
                f"recipe that wrote it, or make the stage anew with --redo={self.context.name}"
            )
        # The checkpoint has the state, the recipe the learning rates and other options.
        groups = [dict(group) for group in self.optimizer.param_groups]
        try:
            self.network.load_state_dict(parts["network"])
            self.optimizer.load_state_dict(parts["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{path}: is not of the recipe's network: {error}\nGo back to the recipe that "
                f"wrote it, or make the stage anew with --redo={self.context.name}"
            ) from error
        for group, own_group in zip(self.optimizer.param_groups, groups, strict=True):
            group.update({key: value for key, value in own_group.items() if key != "params"})
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(parts["scaler"])
        self.step = checkpoint_step(path)
        self.metrics = progress["metrics"]
        self.seconds = progress["seconds"]

    def _parts(self) -> dict[str, Any]:
        """What a checkpoint keeps the state of, by name."""
        parts = {
            "network": self.network,
            # accelerate wraps the recipe's optimizer
            "optimizer": getattr(self.optimizer, "optimizer", self.optimizer),
            "average": self.average,
            "scaler": self.accelerator.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def save(self) -> None:
        """Write a checkpoint of the current step; every process waits for it."""
        if self.accelerator.is_main_process:
            own = self._parts()
            trees: dict[str, Any] = {name: part.state_dict() for name, part in own.items()}
            trees["progress"] = {
                "parts": {name: type(part).__name__ for name, part in own.items()},
                "metrics": self.metrics,
                "seconds": self.seconds + time.perf_counter() - self.started,
            }
            keep = self.stage.schedule.keep_checkpoints
            save_checkpoint(self.checkpoints, self.step, trees, keep)
        self.accelerator.wait_for_everyone()

    def fit(self) -> None:
        """Optimizer steps up to the end, with checkpoints, validation and pictures."""
        schedule = self.stage.schedule
        log = RunLog(self.stage, self.context, self.step)
        watch = LossWatch(self.accelerator)
        timer = StepTimer(self.split.global_batch, self.accelerator.device)
        micro_batches = self._micro_batches(schedule.max_steps)
        try:
            while self.step < schedule.max_steps:
                with timer.waiting():
                    batches = [next(micro_batches) for _ in range(self.split.accumulation)]
                rates = self._update(batches, watch)
                self.step += 1
                timer.steps += 1
                log.step()
                due_checkpoint = self._due(schedule.checkpoint_every)
                if self._due(schedule.log_every) or due_checkpoint:
                    self._log(log, watch, timer, rates)
                with timer.paused():
                    if self._due(schedule.validate_every):
                        self._validate(log)
                    if self._due(schedule.pictures_every):
                        self._pictures(log)
                    if due_checkpoint:
                        self.save()
        finally:
            log.close()

    def _log(
        self, log: RunLog, watch: LossWatch, timer: "StepTimer", rates: dict[str, float]
    ) -> None:
        try:
            losses = watch.means()
        except DivergenceError as error:
            good = complete_checkpoints(self.checkpoints)
            kept = f"The last good checkpoint is {good[-1]}" if good else "There is no checkpoint"
            raise DivergenceError(f"{self.context.name}: {error} {kept}.") from error
        lr = {f"lr/{name}": rate for name, rate in rates.items()}
        log.numbers(self.step, {**losses, **lr, **timer.read()})
        self.metrics.update({name: value for name, value in losses.items() if name != "grad_norm"})

    def finish(self) -> StageResult:
        """Export the trained weights (their average, when one is kept)."""
        artifacts: dict[str, Path] = {}
        if self.accelerator.is_main_process:
            with self._shown_weights():
                artifacts = self.task.export(self.network, self.context.directory)
        self.accelerator.wait_for_everyone()
        return StageResult(artifacts=artifacts, metrics=self.metrics)

    def _update(self, batches: list[Batch], watch: LossWatch) -> dict[str, float]:
        """One optimizer step over this process's micro-batches of the global batch.

        Returns the learning rates. A step that fp16's scaler skips, as its gradient overflowed,
        counts as a step: draws and learning rate go on, the average sees the weights once more.
        """
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
            watch.add(draws, loss, weight)
        rates = set_learning_rates(self.optimizer, lr_share(self.stage.schedule, self.step))
        watch.add_norm(self.step, self._clip())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.step + 1)
        return rates

    def _global_weight(self, batches: list[Batch]) -> Tensor:
        """Terms that the loss averages over in the whole global batch, on the device."""
        own = sum(self.task.weight(batch) for batch in batches)
        # Filled on the device: a copy from here would wait for it.
        total = torch.full((), own, dtype=torch.float32, device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(total)
        # A batch without any term has a loss of 0, not of 0 / 0.
        return total.clamp_min(1e-12)

    def _clip(self) -> Tensor:
        """Clip the gradient; returns its norm before that, on the device."""
        self.accelerator.unscale_gradients()
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        limit = self.stage.optim.max_grad_norm
        if limit is not None:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    def _micro_batches(self, stop: int) -> Iterator[Batch]:
        dataset = self.task.dataset()
        rows = len(dataset)  # type: ignore[arg-type]
        batches = MicroBatches(
            self.stage.seed, self.context.name, rows, self.split, self.step, stop
        )
        workers = self.stage.hardware.loader_workers
        return load_batches(self.task, dataset, batches, workers, self.accelerator.device)

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
            values = {f"validation/{name}": value for name, value in values.items()}
            self.metrics.update(values)
            if values:
                log.numbers(self.step, values)
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
    def paused(self) -> Iterator[None]:
        """Time inside doesn't count."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

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
