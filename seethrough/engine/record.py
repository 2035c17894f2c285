"""`record.json`: what a finished stage was made from, written last."""

import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from seethrough.engine.files import write_json
from seethrough.errors import InputError
from seethrough.recipe.load import Resolved

SCHEMA = 1
RECORD = "record.json"
STARTED = "started.json"
_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "deepspeed", "safetensors", "numpy")


@attrs.frozen
class Artifact:
    """A file or folder that a stage left; `path` is relative to the stage's folder if inside."""

    path: str
    sha256: str


@attrs.frozen
class StageRecord:
    """One stage's record. `inputs` maps each source's text to the identity it had."""

    stage: str
    experiment: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    artifacts: dict[str, Artifact]
    metrics: dict[str, float]
    git: dict[str, Any]
    versions: dict[str, str]
    seconds: float
    adopted: bool = False
    accepted: tuple[str, ...] = ()

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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != SCHEMA:
            raise InputError(
                f"{path}: record of schema {schema}, this version reads {SCHEMA}: run the stage "
                "again with --redo, or use the version that wrote it"
            )
        content["artifacts"] = {
            name: Artifact(**entry) for name, entry in content["artifacts"].items()
        }
        content["accepted"] = tuple(content["accepted"])
        return StageRecord(**content)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: can't read this record ({type(error).__name__}: {error}): run the stage "
            "again with --redo"
        ) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, or None when it is absent or was cut short."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None


def experiment_folder(resolved: Resolved) -> Path:
    """Folder of the experiment's file, or the current one."""
    return Path.cwd() if resolved.file is None else resolved.file.resolve().parent


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the checkout around `folder` and whether its tree had changes."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}
