"""The training loop: every family and every size of machine goes through it."""

import contextlib
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
from seethrough.engine import bad_samples
from seethrough.engine.checkpoint import (
    checkpoint_step,
    complete_checkpoints,
    latest_good_checkpoint,
    load_checkpoint,
    save_checkpoint,
    sweep,
)
from seethrough.engine.distribution import DataParallel, Distribution
from seethrough.engine.divergence import DivergenceError, LossWatch
from seethrough.engine.ema import Average
from seethrough.engine.loader import MicroBatches, Split, load_batches
from seethrough.engine.opponent import Opponent
from seethrough.engine.optimizers import make_optimizer, set_learning_rates
from seethrough.engine.schedules import in_steps, lr_share
from seethrough.engine.step_timer import StepTimer
from seethrough.engine.tracking import RunLog
from seethrough.errors import InputError
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import Batch, StageContext, StageResult, Task

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of the forward pass that differ from the weights'."""


def train(
    stage: TrainStage, task: Task[Any], context: StageContext, accelerator: Accelerator
) -> tuple[StageResult, float]:
    """Train to `schedule.max_steps`, from the latest good checkpoint if there is one.

    Returns the result and the seconds that earlier sessions put into it.
    """
    run = TrainingRun(stage, task, context, accelerator)
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
        self.split = Split.of(stage, accelerator.process_index, accelerator.num_processes)
        rows = len(task.dataset())  # type: ignore[arg-type]
        self.schedule = in_steps(stage.schedule, rows, self.split.global_batch)

        network = self._network()
        groups = task.parameter_groups(network, stage.peak_lr)
        trained = {id(parameter) for group in groups for parameter in group.parameters}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        optimizer = make_optimizer(stage.optim, groups)
        # Before a checkpoint is read, which holds it too.
        self.opponent = self._opponent()
        self.part_types = self._part_types(network, optimizer)
        path = self._newest_checkpoint()
        parts = None if path is None else self._read(path, network)
        self.distribution = self._distribute(network, optimizer)
        if stage.hardware.compile:
            network.compile()
        self.average: Average | None = None
        if path is not None and parts is not None:
            self._restore(path, parts)
        elif stage.optim.ema_decay is not None:
            self.average = Average(self.distribution.masters(), stage.optim.ema_decay)
        task.prepare()
        if path is not None:
            self.step = checkpoint_step(path)
            context.report(f"{context.name}: resumed after step {self.step} from {path}")

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
        return network

    def _opponent(self) -> Opponent | None:
        network = self.task.opponent()
        assert (network is None) == (self.stage.opponent_optim is None)
        if network is None:
            return None
        return Opponent(network, self.task, self.stage, self.accelerator)

    def _distribute(self, network: nn.Module, optimizer: Optimizer) -> Distribution:
        optim = self.stage.optim
        if self.stage.deepspeed.zero_stage == 0:
            return DataParallel(network, optimizer, self.accelerator, optim.max_grad_norm)
        from seethrough.engine.zero import Zero

        distribution = Zero(network, optimizer, self.accelerator)
        if self.accelerator.is_main_process:
            distribution.write_config(self.context.directory / "deepspeed.json")
        return distribution

    def _newest_checkpoint(self) -> Path | None:
        """The newest good checkpoint, which the main process chooses."""
        path = None
        if self.accelerator.is_main_process:
            sweep(self.checkpoints, self.stage.schedule.keep_checkpoints)
            path = latest_good_checkpoint(self.checkpoints, self.context.report)
        return broadcast_object_list([path])[0]

    def _read(self, path: Path, network: nn.Module) -> dict[str, Any]:
        """A checkpoint's parts; the network takes its weights before it is distributed."""
        parts = load_checkpoint(path)
        progress = parts["progress"]
        if progress["parts"] != self.part_types:
            raise self._of_another_recipe(
                path, f"holds {progress['parts']}, but the recipe asks for {self.part_types}"
            )
        if progress["layout"] != self._layout() and not self.stage.hardware.reshard:
            raise InputError(
                f"{path}: was written with {_words(progress['layout'])}, but this run has "
                f"{_words(self._layout())}: it would go on to rounding, not to the same bits. Run "
                f"as before, or allow that with --{self.context.name}.hardware.reshard=true"
            )
        try:
            network.load_state_dict(parts["network"])
        except RuntimeError as error:
            raise self._of_another_recipe(path, str(error)) from error
        return parts

    def _of_another_recipe(self, path: Path, reason: str) -> InputError:
        return InputError(
            f"{path}: is not of this recipe: {reason}\nGo back to the recipe that wrote it or make "
            f"the stage anew with --redo={self.context.name}"
        )

    def _restore(self, path: Path, parts: dict[str, Any]) -> None:
        """Take over the rest of a checkpoint."""
        if self.stage.optim.ema_decay is not None:
            self.distribution.set_weights(parts["average"])
            self.average = Average(self.distribution.masters(), self.stage.optim.ema_decay)
            self.distribution.set_weights(parts["network"])
        try:
            self.distribution.set_optimizer_state(parts["optimizer"])
            if self.opponent is not None:
                self.opponent.restore(parts)
        except (ValueError, RuntimeError) as error:
            raise self._of_another_recipe(path, str(error)) from error
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(parts["scaler"])
        self.metrics = parts["progress"]["metrics"]
        self.seconds = parts["progress"]["seconds"]

    def _part_types(self, network: nn.Module, optimizer: Optimizer) -> dict[str, str]:
        """What a checkpoint keeps the state of, by name."""
        parts = {"network": network, "optimizer": optimizer, "scaler": self.accelerator.scaler}
        types = {name: type(part).__name__ for name, part in parts.items() if part is not None}
        if self.opponent is not None:
            types |= self.opponent.part_types
        return types if self.stage.optim.ema_decay is None else types | {"average": "Average"}

    def _layout(self) -> dict[str, int]:
        """What the last bits of a run depend on beside its recipe."""
        return {
            "processes": self.accelerator.num_processes,
            "micro_batch": self.stage.hardware.micro_batch,
            "zero_stage": self.stage.deepspeed.zero_stage,
        }

    def save(self) -> None:
        """Write a checkpoint of the current step; every process takes part."""
        trees: dict[str, Any] = {
            "network": self.distribution.weights(),
            "optimizer": self.distribution.optimizer_state(),
        }
        if self.average is not None:
            with self.average.applied():
                trees["average"] = self.distribution.weights()
        if self.opponent is not None:
            trees |= self.opponent.state()
        if self.accelerator.is_main_process:
            if self.accelerator.scaler is not None:
                trees["scaler"] = self.accelerator.scaler.state_dict()
            trees["progress"] = {
                "parts": self.part_types,
                "layout": self._layout(),
                "metrics": self.metrics,
                "seconds": self.seconds + time.perf_counter() - self.started,
            }
            keep = self.stage.schedule.keep_checkpoints
            save_checkpoint(self.checkpoints, self.step, trees, keep)
        self.accelerator.wait_for_everyone()

    def fit(self) -> None:
        """Optimizer steps up to the end, with checkpoints, validation and pictures."""
        schedule = self.stage.schedule
        micro_batches = self._micro_batches(schedule.max_steps)
        watch = LossWatch(self.accelerator)
        timer = StepTimer(self.split.global_batch, self.accelerator.device)
        log = RunLog(self.stage, self.context, self.step)
        try:
            while self.step < schedule.max_steps:
                with timer.waiting():
                    batches = [next(micro_batches) for _ in range(self.split.accumulation)]
                rates = self.update(batches, watch)
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
        self, log: RunLog, watch: LossWatch, timer: StepTimer, rates: dict[str, float]
    ) -> None:
        try:
            losses = self._losses(watch)
        except DivergenceError as error:
            good = complete_checkpoints(self.checkpoints)
            kept = f"The last good checkpoint is {good[-1]}" if good else "There is no checkpoint"
            text = f"{self.context.name}: {error} {kept}."
            raise DivergenceError(text, error.step) from error
        lr = {f"lr/{name}": rate for name, rate in rates.items()}
        log.numbers(self.step, {**losses, **lr, **timer.read()})
        self.metrics.update(
            {name: value for name, value in losses.items() if "grad_norm" not in name}
        )

    def _losses(self, watch: LossWatch) -> dict[str, float]:
        """Means since the last call, of both players; raises the DivergenceError of whichever
        diverged first: one that isn't finite soon harms the other."""
        if self.opponent is None:
            return watch.means()
        try:
            losses = watch.means()
        except DivergenceError as own:
            try:
                self.opponent.means()
            except DivergenceError as other:
                if other.step < own.step:
                    raise other from None
            raise
        return losses | self.opponent.means()

    def finish(self) -> StageResult:
        """Export the trained weights (their average, when one is kept)."""
        artifacts: dict[str, Path] = {}
        with self._whole(torch.device("cpu")) as network:
            if self.accelerator.is_main_process:
                artifacts = self.task.export(network, self.context.directory)
        self.accelerator.wait_for_everyone()
        left_out = bad_samples.count(self.context.directory)
        if left_out:
            self.metrics["bad_samples"] = left_out
        return StageResult(artifacts=artifacts, metrics=self.metrics)

    def update(self, batches: list[Batch], watch: LossWatch) -> dict[str, float]:
        """One optimizer step over this process's micro-batches of the global batch.

        Returns the learning rates. A step that fp16's scaler skips, as its gradient overflowed,
        counts as a step: draws and learning rate go on, the average sees the weights once more.
        """
        distribution = self.distribution
        world = self.accelerator.num_processes
        weight = self._global_weight(batches)
        for number, batch in enumerate(batches):
            draws: list[Draw] = batch["draw"]
            # Dropout, if the network has any, follows from the first draw of the micro-batch.
            torch.manual_seed(draws[0].torch("network").initial_seed())
            last = number == len(batches) - 1
            with distribution.micro_batch(last):
                moved: Any = send_to_device(batch, self.accelerator.device, non_blocking=True)
                with distribution.autocast():
                    loss = self.task.loss(distribution.model, moved)
                # Gradients are averaged over processes; the loss is a global sum / weight.
                distribution.backward(loss.total * (world / weight))
            watch.add(draws, loss, weight)
            if self.opponent is not None:
                self.opponent.learn(moved, loss, weight, world, last)
        share = lr_share(self.schedule, self.step)
        rates = set_learning_rates(distribution.optimizer, share)
        watch.add_norm(self.step, distribution.step())
        if self.opponent is not None:
            rates |= self.opponent.step(self.step, share)
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
    def _whole(self, device: torch.device) -> Iterator[nn.Module]:
        """The network as it is exported: averaged weights, evaluation mode.

        Every process enters; on the main one it is whole.
        """
        averaged = self.average.applied() if self.average else contextlib.nullcontext()
        with averaged, self.distribution.whole(device) as network:
            yield network

    @contextlib.contextmanager
    def _shown(self) -> Iterator[nn.Module]:
        """The network as `_whole` gives it, in the forward pass's precision, without gradients."""
        dtype = AUTOCAST.get(self.stage.optim.precision)
        with (
            self._whole(self.accelerator.device) as network,
            torch.no_grad(),
            torch.autocast(self.accelerator.device.type, dtype, enabled=dtype is not None),
        ):
            yield network

    def _validate(self, log: RunLog) -> None:
        with self._shown() as network:
            if self.accelerator.is_main_process:
                values = self.task.validate(network)
                values = {f"validation/{name}": value for name, value in values.items()}
                self.metrics.update(values)
                if values:
                    log.numbers(self.step, values)
        self.accelerator.wait_for_everyone()

    def _pictures(self, log: RunLog) -> None:
        with self._shown() as network:
            if self.accelerator.is_main_process:
                log.pictures(self.step, self.task.pictures(network))
        self.accelerator.wait_for_everyone()


def _words(layout: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in layout.items())
