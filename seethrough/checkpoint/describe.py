"""What lies at a path, in lines for a terminal."""

import json
from collections.abc import Iterator
from pathlib import Path

from seethrough.checkpoint.settings import Inspect
from seethrough.checkpoint.source import (
    AVERAGE,
    CHECKPOINTS,
    MANIFEST,
    NETWORK,
    has_weights,
    kind_of,
    open_weights,
    parts_of,
    split_part,
    stages_of,
)
from seethrough.checkpoint.summary import by_part, by_tensor, size, summary
from seethrough.engine.checkpoint import complete_checkpoints
from seethrough.engine.record import read_record


def describe(text: str, settings: Inspect) -> Iterator[str]:
    """Lines that say what `PATH` or `PATH:PART` is.

    Raises:
        InputError: when it is nothing known, or can't be read.
    """
    path, part = split_part(text)
    if part is not None:
        yield from _weights(text, settings)
        return
    kind = kind_of(path)
    if kind == "run":
        for folder in stages_of(path):
            yield from _stage(folder)
    elif kind == "stage":
        yield from _stage(path)
    elif kind == "training checkpoint":
        yield from _training(path)
        if settings.keys:
            yield from by_tensor(open_weights(str(path)).tensors)
    elif kind == "pipeline":
        yield f"{path}: a pipeline"
        for name, folder in parts_of(path).items():
            yield f"  {name}: {_one(str(folder))}"
    else:
        yield from _weights(text, settings)


def _weights(text: str, settings: Inspect) -> Iterator[str]:
    weights = open_weights(text)
    named = "" if weights.config is None else f"{_class(weights.config)}, "
    yield f"{weights.where}: {named}{summary(weights.tensors)}"
    lines = by_tensor(weights.tensors) if settings.keys else by_part(weights.tensors)
    yield from (f"  {line}" for line in lines)


def _one(text: str) -> str:
    weights = open_weights(text)
    named = "" if weights.config is None else f"{_class(weights.config)}, "
    return named + summary(weights.tensors)


def _class(config: object) -> str:
    """The class that a config names: diffusers' way, or transformers'."""
    assert isinstance(config, dict)
    architectures = config.get("architectures") or ["a network"]
    return str(config.get("_class_name") or architectures[0])


def _stage(folder: Path) -> Iterator[str]:
    record = read_record(folder)
    if record is None:
        yield f"{folder}: a stage, not finished"
    else:
        state = "adopted" if record.adopted else f"finished after {record.seconds:.0f} s"
        yield f"{folder}: a stage of {record.experiment}, {state}, {record.fingerprint[:12]}"
        parts = parts_of(folder)
        for name, artifact in record.artifacts.items():
            path = folder / artifact.path
            if name in parts:
                yield f"  {name}: {_one(str(path))}"
            elif path.is_dir() and any(map(has_weights, path.iterdir())):
                yield f"  {name}: a pipeline of {', '.join(parts_of(path))}, {path}"
            else:
                yield f"  {name}: {artifact.path}"
    for path in complete_checkpoints(folder / CHECKPOINTS):
        yield from (f"  {line}" for line in _training(path))


def _training(path: Path) -> Iterator[str]:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    total = sum(entry["bytes"] for entry in manifest["files"].values())
    yield f"{path}: a training checkpoint after {manifest['step']} steps, {size(total)}"
    for part in manifest["parts"]:
        weights = part in (NETWORK, AVERAGE)
        yield f"  {part}" + (f": {_one(f'{path}:{part}')}" if weights else "")
