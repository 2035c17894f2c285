"""Exponential moving average of trained weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Keeps a float32 average of parameters, updated after every optimizer step.

    The decay grows as (1 + step) / (10 + step) up to `decay`, so that the first weights don't
    weigh on a short run. Nothing here waits for the device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.decay = decay
        self.values = [parameter.detach().float().clone() for parameter in self.parameters]

    def update(self, step: int) -> None:
        """Move towards the weights after `step` optimizer steps (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [parameter.detach().float() for parameter in self.parameters]
        torch._foreach_lerp_(self.values, current, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the network for a while."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        self._write(self.values)
        try:
            yield
        finally:
            self._write(kept)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The averages, in the order of the parameters."""
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Take over averages that `state_dict` gave."""
        for mine, given in zip(self.values, state["values"], strict=True):
            mine.copy_(given)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
