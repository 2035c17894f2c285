"""Linear layers of 4 bits, by bitsandbytes: as published repositories store them, or packed here.

A packed weight `x.weight` has its scales beside it, as `x.weight.absmax`, `x.weight.quant_map` and
others. It stays packed in memory, on any device, and is unpacked while its layer computes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from torch import Tensor, nn

from seethrough.errors import InputError
from seethrough.models.checkpoints import PACKED, cast, load_into

BLOCK = 64
"""Weights that share a scale where we pack them."""

LEVELS = 16
"""Values of a weight of 4 bits, whose table lies beside a layer's scales in float32."""


def load_packed(
    model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype | None, source: str | Path
) -> None:
    """Load a state dict with packed weights into a model on the meta device.

    The layers that have them become bitsandbytes' and compute in the type of their input.

    Args:
        model: as its config makes it, with plain linear layers.
        state: all tensors of the checkpoint.
        dtype: what to cast the weights to that are not packed; None keeps each one's own.
        source: the file or folder that error messages name.

    Raises:
        InputError: as `load_into`, or when a packed weight is damaged or is no linear layer's.
    """
    packed, rest = split_packed(state)
    _make_room(model, packed, source)
    load_into(model, cast(rest, dtype), source)
    for layer, tensors in packed.items():
        _fill(model, layer, tensors, source)


def split_packed(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The packed weights of a state dict, each with its scales, by layer; and all the rest."""
    layers = {key.partition(PACKED)[0] for key in state if PACKED in key}
    packed: dict[str, dict[str, Tensor]] = defaultdict(dict)
    rest: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, found, scale = key.partition(".weight")
        if found and layer in layers:
            packed[layer][f"weight{scale}"] = value
        else:
            rest[key] = value
    return packed, rest


def unpack(state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """The state dict with its packed weights as plain ones, in the type that they were packed from.

    Raises:
        InputError: when a packed weight is damaged; it names `source`.
    """
    packed, plain = split_packed(state)
    for name, tensors in packed.items():
        key = f"{name}.weight"
        scales = dict(tensors)
        try:
            data = scales.pop("weight")
            weight = Params4bit.from_prequantized(data, scales, device="cpu")  # pyright: ignore[reportArgumentType]
            plain[key] = dequantize_4bit(weight.data, weight.quant_state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(_damaged(key, source, error)) from error
    # In the order of the file: a packed weight stands where it stood.
    order = [key for key in state if key in plain]
    return {key: plain[key] for key in order}


def _damaged(key: str, source: str | Path, error: Exception) -> str:
    return (
        f"{source}: {key!r} is packed to 4 bits and can't be unpacked ({error!r}); fetch the "
        "checkpoint again"
    )


def _make_room(model: nn.Module, layers: Iterable[str], source: str | Path) -> None:
    """Put layers without a weight in the place of those that have a packed one."""
    for name in layers:
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            layer = None
        if not isinstance(layer, nn.Linear):
            raise InputError(
                f"{source}: {name + '.weight'!r} is packed to 4 bits, but this "
                f"{type(model).__name__} has no linear layer there; the checkpoint was made with "
                "another config or is of another model"
            )
        biased = layer.bias is not None
        room = Linear4bit(layer.in_features, layer.out_features, biased, device="meta")
        room.register_parameter("weight", None)
        model.set_submodule(name, room)


def _fill(model: nn.Module, name: str, tensors: dict[str, Tensor], source: str | Path) -> None:
    room = model.get_submodule(name)
    scales = dict(tensors)
    try:
        data = scales.pop("weight")
        weight = Params4bit.from_prequantized(data, scales, device="cpu", module=room)  # pyright: ignore[reportArgumentType]
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(_damaged(f"{name}.weight", source, error)) from error
    state: Any = weight.quant_state
    found, needed = tuple(state.shape), (room.out_features, room.in_features)
    if found != needed:
        raise InputError(
            f"{source}: {name + '.weight'!r} has shape {found}, but this {type(model).__name__} "
            f"needs {needed}; the checkpoint was made with another config"
        )
    room.weight = weight


def pack_linears(model: nn.Module, device: torch.device) -> None:
    """Pack the linear layers of a model on the CPU to NF4; the others keep their type.

    Each is packed on `device` and comes back. Layers that are packed already stay, and so do those
    whose sides are no multiples of 64, of which kernels ask this. A scale, in float32, serves 64
    weights: 4.5 bits a weight. Dettmers et al., "QLoRA", 2023.
    """
    for name, layer in list(model.named_modules()):
        if not is_packable(layer):
            continue
        room = Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, device="meta"
        )
        packing: dict[str, Any] = {
            "quant_type": "nf4",
            "blocksize": BLOCK,
            "compress_statistics": False,
            "module": room,
        }
        weight: Any = Params4bit(layer.weight.data, **packing)
        room.weight = weight.to(device).to("cpu")
        room.bias = layer.bias
        model.set_submodule(name, room.train(layer.training))


def is_packable(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether `pack_linears` packs a layer."""
    if not isinstance(layer, nn.Linear) or isinstance(layer, Linear4bit):
        return False
    return layer.in_features % BLOCK == 0 and layer.out_features % BLOCK == 0


def packed_bytes(layer: nn.Linear) -> tuple[int, int]:
    """Bytes of a layer's weights as `pack_linears` packs them, and of their scales."""
    count = layer.in_features * layer.out_features
    return count // 2, 4 * (count // BLOCK) + 4 * LEVELS
