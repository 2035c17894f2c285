"""`record.json`: what a finished stage was made from, written last."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

import seethrough
from seethrough.engine.files import write_json
from seethrough.errors import InputError

SCHEMA = 1
RECORD = "record.json"
STARTED = "started.json"
_PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "deepspeed", "bitsandbytes", "safetensors",
    "numpy",
)  # fmt: skip


@attrs.frozen
class Artifact:
    """A file or folder that a stage left; `path` is relative to the stage's folder if inside."""

    path: str
    sha256: str


@attrs.frozen
class Input:
    """What a stage reads at one of its fields."""

    source: str
    """The source's text, with the path of a local one."""
    identity: str
    """What the fingerprint holds: the fingerprint of the stage that makes it, the hash of a local
    one's content, the repository and revision of a hub's."""
    content: str | None = None
    """What the identity leaves open: the sha256 of a stage's artifact, the commit of a hub's
    revision; None while it is not known."""


@attrs.frozen
class Made:
    """Values that a stage was, or is being, made with."""

    fingerprint: str
    config: dict[str, str]
    """What the result depends on: values by path, local sources by their content."""
    inputs: dict[str, Input]
    """By path."""
    accepted: dict[str, list[str]] = attrs.field(factory=dict)
    """By fingerprint, the drift that the user accepted for it."""


@attrs.frozen
class StageRecord:
    """One stage's record: what it was made with, and what it left."""

    stage: str
    experiment: str
    fingerprint: str
    config: dict[str, str]
    execution: dict[str, str]
    """The other values, which say how the stage was carried out."""
    inputs: dict[str, Input]
    artifacts: dict[str, Artifact]
    metrics: dict[str, float]
    git: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    environment: dict[str, str] = attrs.field(factory=dict)
    """The experiment's `environment` likewise: data roots and variables."""
    adopted: bool = False
    accepted: dict[str, list[str]] = attrs.field(factory=dict)

    def agrees_with(self, fingerprint: str) -> bool:
        """Whether the stage may be skipped for this fingerprint."""
        return self.adopted or fingerprint == self.fingerprint or fingerprint in self.accepted

    def artifact_path(self, name: str, directory: Path) -> Path:
        """Where the artifact lies; `directory` is the stage's folder."""
        return directory / self.artifacts[name].path


def write_record(directory: Path, record: StageRecord) -> None:
    """Write `record.json`; with it the stage is finished."""
    write_json(directory / RECORD, {"schema": SCHEMA, **attrs.asdict(record)})


def read_record(directory: Path) -> StageRecord | None:
    """The stage's record, or None. Raises InputError for one that can't be read."""
    path = directory / RECORD
    if not path.exists():
        return None
    again = f"run with --redo={directory.name} to make the stage again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != SCHEMA:
            raise InputError(
                f"{path}: record of schema {schema}, this version reads {SCHEMA}: {again}, or use "
                "the version that wrote it"
            )
        artifacts = {name: Artifact(**entry) for name, entry in content["artifacts"].items()}
        inputs = _inputs(content["inputs"])
        return StageRecord(**{**content, "artifacts": artifacts, "inputs": inputs})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: can't read this record ({type(error).__name__}: {error}): {again}"
        ) from error


def write_started(directory: Path, made: Made) -> None:
    """Write what a stage is being made with, before it starts."""
    write_json(directory / STARTED, attrs.asdict(made))


def read_started(directory: Path) -> Made | None:
    """What an unfinished stage was being made with, or None."""
    try:
        content = json.loads((directory / STARTED).read_text(encoding="utf-8"))
        return Made(**{**content, "inputs": _inputs(content["inputs"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _inputs(content: Mapping[str, Any]) -> dict[str, Input]:
    return {path: Input(**entry) for path, entry in content.items()}


def git_state() -> dict[str, Any]:
    """Commit of the checkout that this code runs from, and whether its tree had changes.

    Both are None outside of a checkout.
    """

    def git(*arguments: str) -> str | None:
        folder = Path(seethrough.__file__).parent
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    changes = None if commit is None else git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, where they are installed."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
