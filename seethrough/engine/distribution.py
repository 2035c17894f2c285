"""How weights, gradients and optimizer state of a training run lie on its processes."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer


class Distribution(ABC):
    """Drives the backward pass and the optimizer, and gives the whole state back.

    What it gives and takes as a whole is the same for every distribution: weights by name, and an
    optimizer's state in PyTorch's layout. So a checkpoint doesn't depend on how many processes
    wrote it. All processes call these methods together.
    """

    model: nn.Module
    """What the loss calls."""
    optimizer: Optimizer
    """Holds the learning rate of each group."""

    @abstractmethod
    def micro_batch(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around the forward and backward pass of one: gradients are reduced at the last."""

    @abstractmethod
    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around the forward pass and the loss."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""

    @abstractmethod
    def step(self) -> Tensor:
        """Clip the gradient, step, clear it; returns the norm before clipping, on the device."""

    @abstractmethod
    def masters(self) -> list[Tensor]:
        """The float32 weights that this process's optimizer updates, to be changed in place."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The network's state on the main process, copied to the CPU; others get nothing."""

    @abstractmethod
    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the masters to weights by name, the same on every process."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state on the main process; others get nothing."""

    @abstractmethod
    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take over what `optimizer_state` gave, but for the options of groups, which are the
        recipe's. Raises ValueError if it is of other parameters."""

    @abstractmethod
    def whole(self, device: torch.device) -> contextlib.AbstractContextManager[nn.Module]:
        """The network with the masters for weights, in evaluation mode, on the main process."""


class DataParallel(Distribution):
    """Everything whole on every process; PyTorch's DDP averages the gradients."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        accelerator: Accelerator,
        max_grad_norm: float | None,
    ) -> None:
        self.network = network.to(accelerator.device)
        self.accelerator = accelerator
        self.max_grad_norm = max_grad_norm
        # Listed once: a walk over the modules at every step takes a millisecond.
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.model, self.optimizer = accelerator.prepare(network, optimizer)

    def micro_batch(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return self.accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def step(self) -> Tensor:
        self.accelerator.unscale_gradients()
        parameters = [p for p in self.trained if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def masters(self) -> list[Tensor]:
        return [parameter.data for parameter in self.trained]

    def weights(self) -> dict[str, Tensor]:
        if not self.accelerator.is_main_process:
            return {}
        state = self.network.state_dict()
        return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def set_weights(self, weights: dict[str, Tensor]) -> None:
        self.network.load_state_dict(weights)

    def optimizer_state(self) -> dict[str, Any]:
        return self._optimizer.state_dict() if self.accelerator.is_main_process else {}

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        own = [dict(group) for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state)
        for group, options in zip(self._optimizer.param_groups, own, strict=True):
            group.update({key: value for key, value in options.items() if key != "params"})
        for parameter, values in self._optimizer.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # A checkpoint's tensors are contiguous. Fused steps walk through weights and
                    # moments in the order of memory: channels that lie last must in both.
                    laid_out = torch.empty_like(parameter, dtype=value.dtype, device=value.device)
                    values[key] = laid_out.copy_(value)

    @property
    def _optimizer(self) -> Optimizer:
        """The recipe's optimizer, which accelerate wraps."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    @contextlib.contextmanager
    def whole(self, device: torch.device) -> Iterator[nn.Module]:
        del device  # it lies where it is trained
        self.network.eval()
        yield self.network
        self.network.train()
