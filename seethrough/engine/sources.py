"""Turns the sources that stages name into local paths, and into identities for fingerprints."""

import json
from pathlib import Path

from seethrough.data.sample_list import content_hash
from seethrough.engine.files import tree_sha256, write_json
from seethrough.errors import InputError
from seethrough.recipe import Hub, Local, Output, Source


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


def local_identity(source: Local, cache: HashCache) -> str:
    """Identity of a local input: of a sample list its entries, else the bytes."""
    path = Path(source.path)
    if not path.exists():
        return "absent"
    if path.name.endswith((".txt", ".json", ".json.gz")):
        return f"samples:{content_hash(path)}"
    return f"sha256:{cache.sha256(path)}"


def hub_identity(source: Hub) -> str:
    """Identity of a hub repository: its revision."""
    return f"{source.repo}@{source.revision or 'main'}"


def fetch(source: Source, where: str, outputs: dict[Output, Path]) -> Path:
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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    name = f"{where}: hub model {source.repo}" + (f"@{source.revision}" if source.revision else "")
    try:
        return Path(snapshot_download(source.repo, revision=source.revision))
    except GatedRepoError as error:
        raise InputError(
            f"{name} is gated: accept its terms on its page, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name} was not found, or is private: check the name, or `hf auth login`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{name} can't be fetched ({type(error).__name__}: {error}). Connect to the hub, or "
            f"put the files in a folder and set --{where}=file:FOLDER"
        ) from error


