"""Nested plain data with tensors inside, as one safetensors file and one JSON file.

Nothing is pickled, so reading a checkpoint runs no foreign code.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_TENSOR = "__tensor__"
_INT_KEYS = "__int_keys__"
_TUPLE = "__tuple__"


def save_tree(tree: Any, path: Path) -> None:
    """Write `tree` (dicts, lists, tuples, numbers, strings, None, tensors) beside `path`.

    Makes `path`.safetensors and `path`.json. Raises TypeError on anything else.
    """
    tensors: dict[str, Tensor] = {}
    plain = _encode(tree, tensors)
    save_file(apart(tensors), path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps(plain))


def apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of those that share memory, which safetensors refuses."""
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        shares = storage.nbytes() != tensor.nbytes or storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        separate[name] = tensor.clone() if shares else tensor
    return separate


def load_tree(path: Path) -> Any:
    """Read back what `save_tree` wrote, tensors on the CPU with their dtype."""
    tensors = load_file(path.with_suffix(".safetensors"))
    return _decode(json.loads(path.with_suffix(".json").read_text()), tensors)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu").contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        if value and all(type(key) is int for key in value):
            return {_INT_KEYS: [[key, _encode(item, tensors)] for key, item in value.items()]}
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be all strings or all integers: {list(value)[:5]}")
        return {key: _encode(item, tensors) for key, item in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_encode(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"can't store a {type(value).__name__} in a checkpoint")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _INT_KEYS in value:
        return {key: _decode(item, tensors) for key, item in value[_INT_KEYS]}
    if _TUPLE in value:
        return tuple(_decode(item, tensors) for item in value[_TUPLE])
    return {key: _decode(item, tensors) for key, item in value.items()}


def tree_bytes(tree: Any) -> int:
    """Bytes of all tensors in `tree`."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(tree_bytes(item) for item in tree.values())
    if isinstance(tree, list | tuple):
        return sum(tree_bytes(item) for item in tree)
    return 0
