"""The network that plays against a task's own: a second optimizer in the same training loop."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.engine.distribution import DataParallel
from seethrough.engine.divergence import DivergenceError, LossWatch
from seethrough.engine.optimizers import make_optimizer, set_learning_rates
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import Batch, Loss, ParameterGroup, Task

NAME = "opponent"
"""Of its rate in the log, and what its other numbers begin with."""


class Opponent:
    """Learns from every micro-batch after the task's own network did, and steps when that does.

    So both see the same samples, and add up the gradients of the same global batch. No average of
    its weights is kept, and it is not exported.
    """

    def __init__(
        self, network: nn.Module, task: Task[Any], stage: TrainStage, accelerator: Accelerator
    ) -> None:
        optim = stage.opponent_optim
        assert optim is not None
        network.train()
        if stage.hardware.channels_last:
            nn.Module.to(network, memory_format=torch.channels_last)
        groups = [ParameterGroup(NAME, list(network.parameters()), optim.lr)]
        optimizer = make_optimizer(optim, groups)
        self.task = task
        self.part_types = {
            NAME: type(network).__name__,
            f"{NAME}_optimizer": type(optimizer).__name__,
        }
        self.distribution = DataParallel(network, optimizer, accelerator, optim.max_grad_norm)
        self.watch = LossWatch(accelerator, optim="its own ")

    def learn(self, batch: Batch, first: Loss, weight: Tensor, world: int, last: bool) -> None:
        """Add the gradients of a micro-batch, after the first player's loss of it."""
        distribution = self.distribution
        with distribution.micro_batch(last):
            with distribution.autocast():
                loss = self.task.opponent_loss(distribution.model, batch, first)
            distribution.backward(loss.total * (world / weight))
        draws: list[Draw] = batch["draw"]
        self.watch.add(draws, loss, weight)

    def step(self, step: int, lr_share: float) -> dict[str, float]:
        """One optimizer step; returns the learning rate by its name."""
        rates = set_learning_rates(self.distribution.optimizer, lr_share)
        self.watch.add_norm(step, self.distribution.step())
        return rates

    def means(self) -> dict[str, float]:
        """What `LossWatch.means` tells, under names of its own.

        Raises DivergenceError, which says whose loss or gradient it was."""
        try:
            losses = self.watch.means()
        except DivergenceError as error:
            raise DivergenceError(f"the opponent: {error}", error.step) from error
        return {f"{NAME}/{name}": value for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """Trees for a checkpoint, on the main process; others get nothing in them."""
        return {
            NAME: self.distribution.weights(),
            f"{NAME}_optimizer": self.distribution.optimizer_state(),
        }

    def restore(self, parts: dict[str, Any]) -> None:
        """Take over what `state` gave. Raises RuntimeError or ValueError if it is of another
        network."""
        self.distribution.set_weights(parts[NAME])
        self.distribution.set_optimizer_state(parts[f"{NAME}_optimizer"])
