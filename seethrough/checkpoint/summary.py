"""What weights are, in words: their number, size and types, by part of the network."""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor

from seethrough.models.checkpoints import PACKED

_SHORT = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "uint8": "uint8",
}  # fmt: skip
NF4 = "4 bits"


def summary(tensors: Mapping[str, Tensor]) -> str:
    """One line; scales of packed weights count as bytes, not as parameters."""
    layers = packed_layers(tensors)
    weights = {key: value for key, value in tensors.items() if not _is_scale(key, layers)}
    parameters = sum(_count(key, value, layers) for key, value in weights.items())
    bytes_ = sum(value.nbytes for value in tensors.values())
    types = Counter(_type(key, value, layers) for key, value in weights.items())
    named = ", ".join(
        name if len(types) == 1 else f"{count} {name}" for name, count in types.most_common()
    )
    return f"{len(weights)} tensors, {parameters:,} parameters, {named}, {size(bytes_)}"


def by_part(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """A line for all tensors whose names begin with the same word."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        groups.setdefault(key.partition(".")[0], {})[key] = value
    width = max(map(len, groups), default=0)
    for name, group in groups.items():
        yield f"{name:<{width}}  {summary(group)}"


def by_tensor(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """A line for each tensor."""
    layers = packed_layers(tensors)
    width = max(map(len, tensors), default=0)
    for key, value in tensors.items():
        shape = "x".join(map(str, value.shape)) or "scalar"
        kind = _short(value) if _is_scale(key, layers) else _type(key, value, layers)
        yield f"{key:<{width}}  {kind:<6}  {shape}"


def packed_layers(tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of the layers whose weights are packed to 4 bits."""
    return {key.partition(PACKED)[0] for key in tensors if PACKED in key}


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _type(key: str, value: Tensor, layers: set[str]) -> str:
    return NF4 if _is_packed(key, layers) else _short(value)


def _short(value: Tensor) -> str:
    name = str(value.dtype).removeprefix("torch.")
    return _SHORT.get(name, name)


def _count(key: str, value: Tensor, layers: set[str]) -> int:
    return 2 * value.numel() if _is_packed(key, layers) else value.numel()


def _is_packed(key: str, layers: set[str]) -> bool:
    return key.removesuffix(".weight") in layers and key.endswith(".weight")


def _is_scale(key: str, layers: set[str]) -> bool:
    layer, found, rest = key.partition(".weight.")
    return bool(found) and bool(rest) and layer in layers
