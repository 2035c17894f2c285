"""What a path is: weights, a training checkpoint, a stage of a run, a pipeline; and its tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from safetensors import SafetensorError
from torch import Tensor

from seethrough.checkpoint.zero_shards import read_shards, shards_folder
from seethrough.engine.checkpoint import latest_good_checkpoint
from seethrough.engine.record import RECORD, read_record
from seethrough.engine.tensor_tree import load_tree
from seethrough.errors import InputError
from seethrough.models.checkpoints import WEIGHT_NAMES, read_config, read_state_dict
from seethrough.models.torch_files import TORCH_SUFFIXES, read_torch_file
from seethrough.recipe.errors import nearest

Kind = Literal["file", "model", "training checkpoint", "DeepSpeed checkpoint", "stage", "run",
               "pipeline"]  # fmt: skip

NETWORK, AVERAGE = "network", "average"
"""Parts of a training checkpoint that hold weights."""

MANIFEST, CHECKPOINTS = "manifest.json", "checkpoints"


@attrs.frozen
class Weights:
    """Tensors by name, packed ones as they are, and the config of their network if it is known."""

    where: str
    """What messages call them."""
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None = None


def kind_of(path: Path) -> Kind:
    """What lies at a path.

    Raises:
        InputError: when nothing does, or something else.
    """
    if path.is_file():
        return "file"
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; give a checkpoint, a model or a run")
    if has_weights(path):
        return "model"
    if (path / MANIFEST).is_file():
        return "training checkpoint"
    if shards_folder(path) is not None:
        return "DeepSpeed checkpoint"
    if _is_stage(path):
        return "stage"
    if stages_of(path):
        return "run"
    if any(has_weights(folder) for folder in path.iterdir()):
        return "pipeline"
    names = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
    raise InputError(
        f"{path}: no checkpoint, model or run of a kind that is known here: it holds {names}"
    )


def stages_of(run: Path) -> list[Path]:
    """Folders of a run's stages that are finished or have checkpoints."""
    return [folder for folder in sorted(run.iterdir()) if _is_stage(folder)]


def _is_stage(folder: Path) -> bool:
    return (folder / RECORD).is_file() or (folder / CHECKPOINTS).is_dir()


def has_weights(folder: Path) -> bool:
    """Whether safetensors lie in a folder as hub repositories have them, whole or sharded."""
    endings = (".safetensors", ".safetensors.index.json")
    return any((folder / f"{name}{end}").is_file() for name in WEIGHT_NAMES for end in endings)


def parts_of(path: Path) -> dict[str, Path]:
    """Folders with weights: those of a pipeline, or the artifacts of a finished stage, by name."""
    record = read_record(path)
    found = (
        {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()}
        if record is None
        else {name: record.artifact_path(name, path) for name in record.artifacts}
    )
    return {name: folder for name, folder in found.items() if has_weights(folder)}


def split_part(text: str) -> tuple[Path, str | None]:
    """The path and the part of `PATH:PART`; a path that exists as it is has no part."""
    path, colon, part = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), None
    return Path(path), part


def open_weights(text: str) -> Weights:
    """The tensors that `PATH` or `PATH:PART` means, on the CPU, mapped where that can be.

    PART is a folder of a pipeline, an artifact of a finished stage, `network` or `average` of a
    training checkpoint, a state dict in a file of torch.save, or what names of tensors begin with,
    which is taken off them. A stage means its only artifact, or its newest good checkpoint if it
    isn't finished.

    Raises:
        InputError: when there are no such weights, or they can't be read.
    """
    path, part = split_part(text)
    kind = kind_of(path)
    if kind == "file":
        return _open_file(path, part)
    if kind == "model":
        config = path / "config.json"
        known = read_config(path) if config.is_file() else None
        return _below(Weights(str(path), read_state_dict(path), known), part)
    if kind == "training checkpoint":
        return _open_training(path, part)
    if kind == "DeepSpeed checkpoint":
        folder = shards_folder(path)
        assert folder is not None
        return _below(Weights(str(path), read_shards(folder)), part)
    if kind == "stage":
        return _open_stage(path, part)
    if kind == "run":
        stages = ", ".join(map(str, stages_of(path)))
        raise InputError(f"{path}: a run, which has several models: give a stage: {stages}")
    return _open_part(path, parts_of(path), part)


def _open_file(path: Path, part: str | None) -> Weights:
    if path.suffix == ".safetensors":
        return _below(Weights(str(path), read_state_dict(path)), part)
    if path.suffix not in TORCH_SUFFIXES:
        raise InputError(
            f"{path}: neither .safetensors nor {', '.join(TORCH_SUFFIXES)}; no weights are read "
            "from other files"
        )
    try:
        return Weights(str(path), read_torch_file(path, part))
    except InputError:
        if part is None:
            raise
    return _below(Weights(str(path), read_torch_file(path)), part)


def _open_training(path: Path, part: str | None) -> Weights:
    chosen, _, prefix = (part or NETWORK).partition(".")
    try:
        parts = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["parts"]
        if chosen == AVERAGE and AVERAGE not in parts:
            raise InputError(
                f"{path}: keeps no average of the weights: optim.ema_decay was none in its recipe"
            )
        if chosen not in (NETWORK, AVERAGE) or chosen not in parts:
            raise InputError(
                f"{path}: no weights {chosen!r}; {nearest(chosen, [NETWORK, AVERAGE])}"
            )
        tensors = load_tree(path / chosen)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a whole training checkpoint ({error})") from error
    return _below(Weights(f"{path}:{chosen}", tensors, _config_of(path)), prefix or None)


def _config_of(checkpoint: Path) -> dict[str, Any] | None:
    """The config of the only model that a finished stage left, of which this is a checkpoint."""
    stage = checkpoint.absolute().parent.parent
    parts = list(parts_of(stage).values()) if (stage / RECORD).is_file() else []
    known = len(parts) == 1 and (parts[0] / "config.json").is_file()
    return read_config(parts[0]) if known else None


def _open_stage(path: Path, part: str | None) -> Weights:
    parts = parts_of(path)
    if part in parts or (part is None and len(parts) == 1):
        return _open_part(path, parts, part)
    if part is None and parts:
        raise InputError(f"{path}: left several: give {' or '.join(f'{path}:{p}' for p in parts)}")
    if not (path / CHECKPOINTS).is_dir():
        left = ", ".join(str(folder) for folder in sorted(path.iterdir()) if folder.is_dir())
        raise InputError(
            f"{path}: a stage that trained no network; its folders are {left or 'none'}"
        )
    return _open_training(newest_checkpoint(path), part)


def newest_checkpoint(stage: Path) -> Path:
    """The newest good checkpoint of a stage's folder, as its manifest's hashes say.

    Raises:
        InputError: when there is none; harmed ones are named.
    """
    harmed: list[str] = []
    found = latest_good_checkpoint(stage / CHECKPOINTS, harmed.append)
    if found is None:
        said = "".join(f"\n{line}" for line in harmed)
        raise InputError(f"{stage / CHECKPOINTS}: no good checkpoint{said}")
    return found


def average_of(text: str) -> str:
    """`PATH:PART` of the average of weights that a stage or a training checkpoint keeps.

    Raises:
        InputError: when the path is neither.
    """
    path, prefix = split_part(text)
    kind = kind_of(path)
    if kind == "stage":
        path = newest_checkpoint(path)
    elif kind != "training checkpoint":
        raise InputError(
            f"{path}: keeps no average: give a stage of a run, or a training checkpoint of it"
        )
    return f"{path}:{AVERAGE}" + (f".{prefix}" if prefix else "")


def _open_part(path: Path, parts: Mapping[str, Path], part: str | None) -> Weights:
    name = part if part is not None or len(parts) != 1 else next(iter(parts))
    chosen, _, prefix = (name or "").partition(".")
    if chosen not in parts:
        what = "several models" if part is None else f"no model {part!r}"
        raise InputError(
            f"{path}: {what}: give {' or '.join(f'{path}:{known}' for known in parts)}"
        )
    return open_weights(f"{parts[chosen]}:{prefix}" if prefix else str(parts[chosen]))


def _below(weights: Weights, prefix: str | None) -> Weights:
    """The tensors whose names begin with a prefix and a dot, without these."""
    if prefix is None:
        return weights
    start = prefix.removesuffix(".") + "."
    found = {
        key.removeprefix(start): value
        for key, value in weights.tensors.items()
        if key.startswith(start)
    }
    if not found:
        begins = list(dict.fromkeys(key.partition(".")[0] for key in weights.tensors))
        raise InputError(
            f"{weights.where}: no tensor's name begins with {start!r}; {nearest(prefix, begins)}"
        )
    return Weights(f"{weights.where}:{start.removesuffix('.')}", found)
