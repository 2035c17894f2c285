"""Turns the sources that stages name into local paths, and into identities for fingerprints."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from seethrough.data.sample_list import content_hash
from seethrough.engine.files import tree_sha256, write_json
from seethrough.errors import InputError
from seethrough.recipe import Hub, Local, Output, Source, Stage
from seethrough.recipe.paths import flatten

# What is read from the hub: nothing that is unpickled or run.
_HUB_FILES = ["*.json", "*.txt", "*.safetensors"]


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


def sources(stage: Stage) -> Iterator[tuple[str, Source]]:
    """Every source that a stage names, with its path."""
    for path, value in flatten(stage).items():
        yield from _sources_in(path, value)


def _sources_in(path: str, value: Any) -> Iterator[tuple[str, Source]]:
    if isinstance(value, Hub | Local | Output):
        yield path, value
    elif isinstance(value, tuple):
        for index, item in enumerate(cast(tuple[Any, ...], value)):
            yield from _sources_in(f"{path}.{index}", item)


def local_identity(source: Local, cache: HashCache) -> str | None:
    """Identity of a local input: of a sample list its entries, else the bytes; None if absent."""
    path = Path(source.path)
    if not path.exists():
        return None
    if path.name.endswith((".txt", ".json", ".json.gz")):
        return f"samples:{content_hash(path)}"
    return f"sha256:{cache.sha256(path)}"


def hub_identity(source: Hub) -> str:
    """Identity of a hub repository: its revision."""
    return f"{source.repo}@{source.revision or 'main'}"


def snapshot_commit(path: Path) -> str | None:
    """Commit of a hub repository's local copy, which lies in a folder of that name."""
    return path.name if path.parent.name == "snapshots" else None


def fetch(source: Source, where: str, outputs: Mapping[Output, Path]) -> Path:
    """The local file or folder of a source; hub repositories are downloaded or found in the cache.

    `where` is the field's path, for messages. Raises InputError naming the field, the source and
    what to do.
    """
    if isinstance(source, Output):
        return outputs[source]
    if isinstance(source, Local):
        path = Path(source.path)
        if not path.exists():
            raise InputError(f"{where}: {path} does not exist (from {Path.cwd()})")
        return path
    return _download(source, where)


def _download(source: Hub, where: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{where}: hub model {source.repo}" + (f"@{source.revision}" if source.revision else "")
    instead = "or put its files in a folder and name that there: file:FOLDER"
    try:
        folder = snapshot_download(source.repo, revision=source.revision, allow_patterns=_HUB_FILES)
        return Path(folder)
    except GatedRepoError as error:
        raise InputError(
            f"{name} is gated: accept its terms on its page, then `hf auth login`, {instead}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name} was not found, or is private: check the name, `hf auth login`, {instead}"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: it has no such revision; check it, {instead}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if constants.HF_HUB_OFFLINE:
            reason = "is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it: unset it"
        else:
            reason = f"can't be fetched ({_reason(error)}): connect to the hub"
        raise InputError(f"{name} {reason}, {instead}") from error


def _reason(error: Exception) -> str:
    """The first line of the error at the root: the hub's own say what we say, at length."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return f"{type(root).__name__}: {(str(root).splitlines() or [''])[0]}"
