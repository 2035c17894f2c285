"""How much memory the tensors take that a computation makes, on any device.

On the meta device, where tensors have a shape and no content, counting costs next to no time or
memory: a network too large for this machine is counted here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what is made in its context, for as long as it lives.

    What was there before, such as weights, doesn't count, nor does what an operation needs only
    inside itself, such as a convolution's workspace. An allocator's rounding doesn't either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        """Bytes that live."""
        self.peak = 0
        """The most that lived at once, since the start or since `peak` was set."""
        self._storages: dict[int, weakref.ref[Any]] = {}
        self._shapes: dict[Any, tuple[Any, ...]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        leaves: list[Any] = tree_leaves((args, kwargs))
        given = [value for value in leaves if isinstance(value, Tensor)]
        # What an operation makes on the meta device takes a millisecond to find out, and a network
        # repeats itself.
        key = (func, *map(_describe, leaves)) if any(value.is_meta for value in given) else None
        if key in self._shapes:
            result = torch.empty_strided(*self._shapes[key][:2], **self._shapes[key][2])
            self._add(result)
            return result
        result = func(*args, **(kwargs or {}))
        storages = {_storage_key(value) for value in given}
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        new = [value for value in made if _storage_key(value) not in storages]
        for value in new:
            self._add(value)
        if key is not None and isinstance(result, Tensor) and new and result.is_meta:
            how = {"dtype": result.dtype, "device": result.device}
            self._shapes[key] = (result.shape, result.stride(), how)
        return result

    def _add(self, value: Tensor) -> None:
        key = _storage_key(value)
        if key in self._storages:
            return
        storage = value.untyped_storage()
        size = storage.nbytes()

        def gone(_: Any) -> None:
            del self._storages[key]
            self.now -= size

        self._storages[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class FusedAttention(TorchFunctionMode):
    """Attention on the meta device as fused kernels hold it: without a matrix of scores."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """An empty result in place of attention; all else as it is."""
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))


def _storage_key(value: Tensor) -> int:
    return value.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    return type(value), str(value)
