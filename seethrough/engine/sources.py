"""Turns the sources that stages name into local paths, and into identities for fingerprints."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from seethrough.data.roots import find_all, looked_in
from seethrough.data.sample_list import content_hash
from seethrough.data.shards import find_manifest
from seethrough.engine.files import tree_sha256, write_json
from seethrough.engine.hub import MODEL_FILES, download
from seethrough.errors import InputError
from seethrough.recipe import Hub, Local, Output, Source, Stage
from seethrough.recipe.paths import flatten


class HashCache:
    """Hashes of local inputs, kept beside the runs and keyed by size and time of change."""

    def __init__(self, runs: Path) -> None:
        self.path = runs / ".hashes.json"
        try:
            self.known: dict[str, str] = json.loads(self.path.read_text())
        except (OSError, json.JSONDecodeError):
            self.known = {}

    def sha256(self, path: Path) -> str:
        """Hash of a file or folder; read again only if a size or time changed."""
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        stats = [(file, file.stat()) for file in files]
        key = "\n".join(f"{file.resolve()} {s.st_size} {s.st_mtime_ns}" for file, s in stats)
        if key not in self.known:
            self.known[key] = tree_sha256(path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.known)
        return self.known[key]


def sources(stage: Stage, identity: bool = False) -> Iterator[tuple[str, Source]]:
    """Every source that a stage names, with its path; `identity` leaves `Execution` fields out."""
    for path, value in flatten(stage, identity=identity).items():
        yield from _sources_in(path, value)


def _sources_in(path: str, value: Any) -> Iterator[tuple[str, Source]]:
    if isinstance(value, Hub | Local | Output):
        yield path, value
    elif isinstance(value, tuple):
        for index, item in enumerate(cast(tuple[Any, ...], value)):
            yield from _sources_in(f"{path}.{index}", item)


def find_local(source: Local, roots: Sequence[str]) -> list[Path]:
    """Where a local input lies: a relative one in the working directory, then in the data roots.

    The first is the one to take; empty if there is none.
    """
    return find_all(source.path, (Path(), *roots))


def absent_local(source: Local, roots: Sequence[str]) -> str:
    """That a local input is absent, and where it was looked for."""
    if Path(source.path).is_absolute():
        return f"{source.path} does not exist"
    return f"{source.path} does not exist ({looked_in((Path(), *roots))})"


def hidden_notes(stage: Stage, roots: Sequence[str]) -> Iterator[str]:
    """A line for each local input that lies in several places, of which the first is taken."""
    for path, source in sources(stage):
        if isinstance(source, Local):
            taken, *hidden = find_local(source, roots) or [None]
            if hidden:
                others = ", ".join(map(str, hidden))
                yield f"{path}: {source} is taken from {taken}, not from {others}"


def local_identity(source: Local, cache: HashCache, roots: Sequence[str] = ()) -> str | None:
    """Identity of a local input: of a sample list its entries, else the bytes; None if absent."""
    found = find_local(source, roots)
    if not found:
        return None
    path = found[0]
    if path.name.endswith((".txt", ".json", ".json.gz")) or find_manifest(path) is not None:
        return f"samples:{content_hash(path, roots)}"
    return f"sha256:{cache.sha256(path)}"


def hub_identity(source: Hub) -> str:
    """Identity of a hub repository: its revision."""
    return f"{source.repo}@{source.revision or 'main'}"


def is_commit(source: Hub) -> bool:
    """Whether the revision names one commit for all time, not a branch or a tag."""
    return re.fullmatch("[0-9a-f]{40}", source.revision or "") is not None


def snapshot_commit(path: Path) -> str | None:
    """Commit of a hub repository's local copy, which lies in a folder of that name."""
    return path.name if path.parent.name == "snapshots" else None


def fetch(
    source: Source,
    where: str,
    outputs: Mapping[Output, Path],
    roots: Sequence[str] = (),
    reads: Sequence[str] = MODEL_FILES,
) -> Path:
    """The local file or folder of a source; hub repositories are downloaded or found in the cache.

    `where` is the field's path, for messages, `roots` are the data roots, `reads` what is needed of
    a repository, as of `download`. Raises InputError naming the field, the source and what to do.
    """
    if isinstance(source, Output):
        return outputs[source]
    if isinstance(source, Local):
        found = find_local(source, roots)
        if not found:
            raise InputError(f"{where}: {absent_local(source, roots)}")
        return found[0]
    return download(source, where, reads)
