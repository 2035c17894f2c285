"""Weights that DeepSpeed cut over processes, put together again without DeepSpeed.

A checkpoint of it is a folder of files of `torch.save`: `mp_rank_00_model_states.pt`, or one such
file a process under ZeRO-3, and an `..._optim_states.pt` of each process with its part of the
weights in float32. accelerate puts that folder into one of its own, as `pytorch_model`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from seethrough.errors import InputError
from seethrough.models.torch_files import read_torch_data

_MODEL, _OPTIMIZER = "*_model_states.pt", "*_optim_states.pt"
_SINGLE, _FLAT = "single_partition_of_fp32_groups", "fp32_flat_groups"
"""Where a process's part of the weights is: under ZeRO-1 and 2, and under ZeRO-3."""


class _Inert:
    """Takes the place of DeepSpeed's own objects, none of which are needed; it does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def shards_folder(folder: Path) -> Path | None:
    """The folder with DeepSpeed's files: the given one, or one that it names or holds; or None."""
    latest = folder / "latest"
    tag = latest.read_text(encoding="utf-8").strip() if latest.is_file() else "pytorch_model"
    for candidate in (folder, folder / tag):
        if candidate.is_dir() and any(candidate.glob(_MODEL)):
            return candidate
    return None


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The whole network of a checkpoint of DeepSpeed, in float32, in the network's order.

    `folder` is what `shards_folder` gives. Parameters that weren't trained have the type that the
    network was kept in; buffers too.

    Raises:
        InputError: when files are missing or damaged, or the network is cut in other ways too.
    """
    models = [_read(file) for file in _files(folder, _MODEL)]
    if any(not file.name.endswith("mp_rank_00_model_states.pt") for file in folder.glob(_MODEL)):
        raise InputError(f"{folder}: its layers are cut over devices too, which can't be read here")
    network, shapes = models[0]["module"], models[0]["param_shapes"]
    optimizers = [_read(file)["optimizer_state_dict"] for file in _files(folder, _OPTIMIZER, True)]
    if not optimizers:
        return dict(network)
    processes = max(_as_list(optimizers[0]["partition_count"]))
    if len(optimizers) != processes:
        raise InputError(
            f"{folder}: {processes} processes wrote it, but {len(optimizers)} files "
            f"{_OPTIMIZER} are there; copy all of them"
        )
    if _FLAT in optimizers[0]:
        if len(models) != processes:
            raise InputError(
                f"{folder}: {processes} processes wrote it, but {len(models)} files {_MODEL} are "
                "there; copy all of them"
            )
        trained = _join_interleaved(folder, [one[_FLAT] for one in optimizers], shapes)
        frozen = _join_frozen(models)
    elif _SINGLE in optimizers[0]:
        paddings = optimizers[0].get("param_alignment_paddings")
        trained = _join_flat(folder, [one[_SINGLE] for one in optimizers], shapes, paddings)
        frozen = {}
    else:
        raise InputError(f"{folder}: its files hold no weights in float32, so ZeRO wrote none")
    whole = {**network, **frozen, **trained}
    return whole | {name: whole[source] for name, source in models[0]["shared_params"].items()}


def _files(folder: Path, pattern: str, absent: bool = False) -> list[Path]:
    """Files in the order of their processes; `absent` allows none."""
    found = sorted(folder.glob(pattern), key=_process)
    if not found and not absent:
        raise InputError(f"{folder}: no {pattern}; a checkpoint of DeepSpeed is expected there")
    return found


def _process(file: Path) -> int:
    match = re.search(r"zero_pp_rank_(\d+)_", file.name)
    return int(match[1]) if match else 0


def _read(file: Path) -> dict[str, Any]:
    try:
        names = get_unsafe_globals_in_checkpoint(file)
    except (RuntimeError, ValueError):
        names = []  # it is no such archive: reading it says so
    stand_ins: list[Any] = [(_Inert, name) for name in names if name.startswith("deepspeed.")]
    with safe_globals(stand_ins):
        return read_torch_data(file)


def _join_flat(
    folder: Path,
    parts: Sequence[Sequence[Tensor]],
    shapes: Sequence[Mapping[str, torch.Size]],
    paddings: Sequence[Sequence[int]] | None,
) -> dict[str, Tensor]:
    """ZeRO-1 and 2: a group's parameters lie end to end, and that is cut over the processes."""
    joined: dict[str, Tensor] = {}
    for number, group in enumerate(shapes):
        flat = torch.cat([process[number] for process in parts])
        begin = 0
        for index, (name, shape) in enumerate(group.items()):
            _check_length(folder, name, flat, begin + shape.numel())
            joined[name] = flat.narrow(0, begin, shape.numel()).view(shape).clone()
            begin += shape.numel() + (0 if paddings is None else paddings[number][index])
    return joined


def _join_interleaved(
    folder: Path, parts: Sequence[Sequence[Tensor]], shapes: Sequence[Mapping[str, torch.Size]]
) -> dict[str, Tensor]:
    """ZeRO-3: each parameter is cut over the processes, the last part padded."""
    flats = [torch.cat(list(process)) for process in parts]
    joined: dict[str, Tensor] = {}
    begin = 0
    for group in shapes:
        for name, shape in group.items():
            length = math.ceil(shape.numel() / len(flats))
            _check_length(folder, name, flats[0], begin + length)
            whole = torch.cat([flat.narrow(0, begin, length) for flat in flats])
            joined[name] = whole[: shape.numel()].view(shape).clone()
            begin += length
    return joined


def _join_frozen(models: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """ZeRO-3: likewise the parameters that aren't trained."""
    return {
        name: torch.cat([model["frozen_param_fragments"][name] for model in models])[
            : shape.numel()
        ].view(shape)
        for name, shape in (models[0]["frozen_param_shapes"] or {}).items()
    }


def _check_length(folder: Path, name: str, flat: Tensor, needed: int) -> None:
    if needed > len(flat):
        raise InputError(f"{folder}: {name} lies beyond the end of its files; copy them again")


def _as_list(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]
