"""Exponential moving average of trained weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """Keeps an average of float32 weights, updated after every optimizer step.

    The decay grows as (1 + step) / (10 + step) up to `decay`, so that the first weights don't
    weigh on a short run. Where weights are cut over processes, each averages its part. Nothing
    here waits for the device.
    """

    def __init__(self, weights: list[Tensor], decay: float) -> None:
        self.weights = weights
        self.decay = decay
        self.values = [weight.detach().clone() for weight in weights]

    def update(self, step: int) -> None:
        """Move towards the weights after `step` optimizer steps (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, self.weights, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, value in zip(self.weights, self.values, strict=True):
            kept = weight.detach().clone()
            weight.copy_(value)
            value.copy_(kept)
