"""Whether checkpoints are what was written: hashes of records and manifests, whole files, numbers
that are finite."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from seethrough.checkpoint.source import (
    CHECKPOINTS,
    MANIFEST,
    has_weights,
    kind_of,
    open_weights,
    parts_of,
    stages_of,
)
from seethrough.engine.files import file_sha256, tree_sha256
from seethrough.engine.record import read_record
from seethrough.errors import InputError
from seethrough.models.checkpoints import WEIGHT_NAMES, weight_files

Report = Callable[[str], None]


def verify(path: Path, report: Report) -> list[str]:
    """Check all that lies at a path; returns what is wrong, and reports each thing that is well.

    Raises:
        InputError: when nothing known lies there.
    """
    kind = kind_of(path)
    if kind == "run":
        return [line for folder in stages_of(path) for line in _stage(folder, report)]
    if kind == "stage":
        return list(_stage(path, report))
    if kind == "training checkpoint":
        return list(_told(path, _manifest(path), report))
    if kind == "pipeline":
        parts = parts_of(path).values()
        return [line for folder in parts for line in _told(folder, _weights(folder), report)]
    return list(_told(path, _weights(path), report))


def _told(path: Path, problems: Iterator[str], report: Report) -> Iterator[str]:
    found = list(problems)
    if not found:
        report(f"{path}: good")
    yield from found


def _stage(folder: Path, report: Report) -> Iterator[str]:
    """Artifacts as the record has their hashes, and every checkpoint."""
    record = read_record(folder)
    for name, artifact in ({} if record is None else record.artifacts).items():
        path = folder / artifact.path
        yield from _told(path, _artifact(path, name, artifact.sha256), report)
    for path in sorted((folder / CHECKPOINTS).glob("step-*")):
        yield from _told(path, _manifest(path), report)


def _artifact(path: Path, name: str, sha256: str) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: gone, though the record names it as {name}"
    elif tree_sha256(path) != sha256:
        yield f"{path}: its content differs from the record's hash"


def _manifest(path: Path) -> Iterator[str]:
    """Files that differ from a training checkpoint's manifest."""
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"].items()
        expected = {str(name): str(entry["sha256"]) for name, entry in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{path}: no readable {MANIFEST}, so not whole ({type(error).__name__})"
        return
    for name, sha256 in expected.items():
        file = path / name
        if not file.is_file():
            yield f"{file}: missing, though {MANIFEST} names it"
        elif file_sha256(file) != sha256:
            yield f"{file}: its content differs from the hash in {MANIFEST}"


def _weights(path: Path) -> Iterator[str]:
    """Files of weights: readable, of the hash that a hub's cache names, in agreement with their
    index, and finite."""
    try:
        if path.is_file() or has_weights(path):
            for file in weight_files(path):
                yield from _blob(file)
        tensors = open_weights(str(path)).tensors
    except InputError as error:
        yield str(error)
        return
    if path.is_dir():
        yield from _index(path, set(tensors))
    for key, value in tensors.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            yield f"{path}: {key!r} has numbers that are not finite"


def _blob(file: Path) -> Iterator[str]:
    """A file in the hub's cache is a link to one whose name is its sha256."""
    target = file.resolve()
    if target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        found = file_sha256(target)
        if found != target.name:
            yield f"{file}: its sha256 is {found}, but the hub's is {target.name}: fetch it again"


def _index(folder: Path, keys: set[str]) -> Iterator[str]:
    """Where an index of shards and the shards don't agree."""
    for name in WEIGHT_NAMES:
        index = folder / f"{name}.safetensors.index.json"
        if index.is_file():
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
            for key in sorted(named ^ keys)[:1]:
                yield f"{index}: {key!r} stands in only one of it and the shards"
