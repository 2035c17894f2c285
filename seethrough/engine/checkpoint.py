"""Checkpoints on disk: complete or absent.

A checkpoint is `step-00000123/` with one tree a part (`model`, `optimizer`, ...) and a
`manifest.json` that lists every file with its size and sha256. It is written into a hidden
folder beside it, synced, and renamed in one step, so a killed process leaves either a whole
checkpoint or none, and never harms an older one.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seethrough.engine.files import (
    file_sha256,
    is_disk_full,
    remove_tree,
    sync_file,
    sync_folder,
    write_json,
)
from seethrough.engine.tensor_tree import load_tree, save_tree, tree_bytes
from seethrough.errors import InputError

_NAME = re.compile(r"step-(\d{8})")
_MANIFEST = "manifest.json"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimizer steps lies in `folder`."""
    return folder / f"step-{step:08d}"


def save_checkpoint(folder: Path, step: int, parts: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint after `step` steps, then delete the oldest beyond `keep`.

    Raises InputError when the disk is full or the folder can't be written; what was there
    before stays.
    """
    target = checkpoint_path(folder, step)
    partial = folder / f".partial-{target.name}"
    with _disk_errors(folder, tree_bytes(parts)):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            for name, tree in parts.items():
                save_tree(tree, partial / name)
            _write_manifest(partial, step)
            remove_tree(target)
            os.rename(partial, target)
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    for old in complete_checkpoints(folder)[:-keep]:
        remove_tree(old)
    return target


def complete_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints whose manifest agrees with the sizes of their files, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.iterdir()) if _NAME.fullmatch(path.name)]
    return [path for path in found if _sizes_agree(path)]


def checkpoint_step(path: Path) -> int:
    """Optimizer steps that were done when the checkpoint was written."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path}: not a checkpoint folder (expected a name like step-00000100)")
    return int(match[1])


def verify_checkpoint(path: Path) -> str | None:
    """Name the file whose content differs from the manifest, or None for a good checkpoint."""
    manifest = _read_manifest(path)
    if manifest is None:
        return _MANIFEST
    for name, entry in manifest["files"].items():
        if file_sha256(path / name) != entry["sha256"]:
            return name
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read every part back, unverified. Raises InputError when the manifest can't be read."""
    manifest = _read_manifest(path)
    if manifest is None:
        raise InputError(f"{path}: no readable {_MANIFEST}: the checkpoint is not complete")
    return {part: load_tree(path / part) for part in manifest["parts"]}


def latest_good_checkpoint(folder: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is complete and unharmed, or None; names those that are not."""
    for path in reversed(complete_checkpoints(folder)):
        harmed = verify_checkpoint(path)
        if harmed is None:
            return path
        report(
            f"{path}: passed over: the content of {harmed} differs from the manifest. The file was "
            "changed or the disk is faulty."
        )
    return None


def sweep(folder: Path, keep: int) -> None:
    """Delete what a killed process left half written or half deleted, and all beyond `keep`."""
    for pattern in (".partial-*", ".trash-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path)
    for old in complete_checkpoints(folder)[:-keep]:
        remove_tree(old)


def _write_manifest(partial: Path, step: int) -> None:
    files = sorted(path for path in partial.iterdir())
    for path in files:
        sync_file(path)
    manifest = {
        "step": step,
        "parts": sorted({path.stem for path in files}),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in files
        },
    }
    write_json(partial / _MANIFEST, manifest)


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _sizes_agree(path: Path) -> bool:
    manifest = _read_manifest(path)
    if manifest is None:
        return False
    return all(
        (path / name).is_file() and (path / name).stat().st_size == entry["bytes"]
        for name, entry in manifest["files"].items()
    )


@contextmanager
def _disk_errors(folder: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        raise InputError(
            f"{folder}: can't write a checkpoint of {needed / 2**20:,.1f} MiB: {error}; "
            f"{free / 2**20:,.1f} MiB are free. Older checkpoints are whole: free some space "
            "or lower schedule.keep_checkpoints, then run the same command again."
        ) from error
