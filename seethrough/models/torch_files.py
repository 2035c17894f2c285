"""Files that `torch.save` wrote, read without running what a pickle may hold."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seethrough.errors import InputError

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""How names of such files end."""


def read_torch_data(file: str | Path) -> Any:
    """What the file holds: plain data and tensors, these on the CPU, mapped where that can be.

    Raises:
        InputError: when it is absent or damaged, or holds anything else, which a pickle would have
            to run code for.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: no such file; a checkpoint is expected there")
    try:
        # What torch.save wrote before its 1.6 is no archive, and can't be mapped.
        mapped = zipfile.is_zipfile(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{file}: holds more than plain tensors, so reading it would run code; it is refused. "
            f"Ask its author for safetensors ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{file}: not a readable file of torch.save ({error})") from error


def read_torch_file(file: str | Path, part: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Args:
        file: what `torch.save` wrote of a state dict, or of a dictionary of several.
        part: which of these; None takes the file's own, or the only one.

    Raises:
        InputError: as `read_torch_data`, or when there is no such state dict.
    """
    content = read_torch_data(file)
    if part is None and _is_state(content):
        return dict(content)
    parts = {name: inner for name, inner in _items(content) if _is_state(inner)}
    if part is None and len(parts) == 1:
        (part,) = parts
    if part not in parts:
        found = f"; parts of it are: {', '.join(parts)}" if parts else ""
        what = "no state dict, tensors by name," if part is None else f"no state dict {part!r}"
        raise InputError(f"{file}: holds {what} at its top{found}")
    return dict(parts[part])


def _items(content: Any) -> list[tuple[Any, Any]]:
    return list(content.items()) if isinstance(content, dict) else []


def _is_state(content: Any) -> bool:
    items = _items(content)
    return bool(items) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in items)
