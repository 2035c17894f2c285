"""Which model finds parts: found from the command line, then loaded."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch

from seethrough.decompose.models import cache_folder
from seethrough.engine.hub import MODEL_FILES, download
from seethrough.engine.record import read_record
from seethrough.engine.sources import HashCache, snapshot_commit
from seethrough.errors import InputError
from seethrough.inference.device import choose_dtype
from seethrough.inference.partseg import PartSegModel, load_partseg
from seethrough.models.semantic_sam_weights import CONFIG
from seethrough.models.torch_files import TORCH_SUFFIXES
from seethrough.partseg.settings import ModelSettings
from seethrough.recipe import Hub

ARTIFACT = "partseg"
"""Name of what training leaves."""


@attrs.frozen(kw_only=True)
class Choice:
    """The model of a command line; the same on every process."""

    path: Path
    identity: str
    """What results depend on: a commit of a repository and a file in it, or a hash."""
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        """The type's name."""
        return str(self.dtype).removeprefix("torch.")

    def load(self, device: torch.device) -> PartSegModel:
        """The network on a device; raises InputError as `load_partseg`."""
        return load_partseg(self.path, device, self.dtype)


def choose(settings: ModelSettings, run: Path | None, device: torch.device) -> Choice:
    """Find the model; what the hub has is downloaded, or found in its cache.

    Args:
        settings: what the flags say.
        run: what `--from` names, if anything.
        device: where it will compute.

    Raises:
        InputError: when it is not there.
    """
    path, identity = _of_run(run) if run is not None else _given(settings)
    return Choice(path=path, identity=identity, dtype=choose_dtype(settings.precision, device))


def _given(settings: ModelSettings) -> tuple[Path, str]:
    source = settings.model
    assert source is not None
    if isinstance(source, Hub):
        patterns = (*MODEL_FILES, *(f"*{suffix}" for suffix in TORCH_SUFFIXES))
        folder = download(source, "--model", patterns)
        path = _weights(folder)
        commit = snapshot_commit(folder) or source.revision
        return path, f"{source.repo}@{commit} {path.name}"
    path = _weights(Path(source.path))
    return path, f"sha256:{HashCache(cache_folder()).sha256(path)}"


def _weights(path: Path) -> Path:
    """The file of weights that a path is or has, or the folder if it says what its classes are.

    Raises:
        InputError: when there is none, or several.
    """
    if path.is_file() or (path / CONFIG).is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    suffixes = (".safetensors", *TORCH_SUFFIXES)
    found = sorted(file for file in path.iterdir() if file.suffix in suffixes)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{path}: one file of weights is expected, found {names}")
    return found[0]


def _of_run(run: Path) -> tuple[Path, str]:
    """The model that a stage of a run trained."""
    folders = sorted(run.iterdir()) if run.is_dir() else []
    records = [record for folder in folders if (record := read_record(folder)) is not None]
    found = [record for record in records if ARTIFACT in record.artifacts]
    if len(found) != 1:
        names = " and ".join(record.stage for record in found) or "none"
        raise InputError(
            f"{run}: one finished stage with a model of parts is expected, found {names}"
        )
    record = found[0]
    return record.artifact_path(ARTIFACT, run / record.stage), record.artifacts[ARTIFACT].sha256
