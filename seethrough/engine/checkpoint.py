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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seethrough.engine.files import file_sha256, sync_file, sync_folder
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
        _remove(partial)
        partial.mkdir()
        try:
            for name, tree in parts.items():
                save_tree(tree, partial / name)
            _write_manifest(partial, step)
            _remove(target)
            os.rename(partial, target)
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    for old in complete_checkpoints(folder)[:-keep]:
        _remove(old)
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


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read every part back. Raises InputError naming the file whose sha256 disagrees."""
    manifest = _read_manifest(path)
    if manifest is None:
        raise InputError(f"{path}: no readable {_MANIFEST}: the checkpoint is not complete")
    for name, entry in manifest["files"].items():
        if file_sha256(path / name) != entry["sha256"]:
            raise InputError(
                f"{path / name}: content differs from the manifest: the file was changed or the "
                f"disk is faulty. Delete {path} to resume from an older checkpoint."
            )
    return {part: load_tree(path / part) for part in manifest["parts"]}


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    complete = complete_checkpoints(folder)
    return complete[-1] if complete else None


def _write_manifest(partial: Path, step: int) -> None:
    files = sorted(path for path in partial.iterdir())
    for path in files:
        sync_file(path)
    manifest = {
        "step": step,
        "parts": sorted({path.stem for path in files}),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in files
        },
    }
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    sync_file(partial / _MANIFEST)
    sync_folder(partial)


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


def _remove(path: Path) -> None:
    """Delete a folder so that a kill on the way leaves no half checkpoint under its name."""
    if path.exists():
        trash = path.with_name(f".trash-{path.name}")
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(path, trash)
        shutil.rmtree(trash)


@contextmanager
def _disk_errors(folder: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # safetensors wraps the operating system's error in its own type.
        if not isinstance(error, OSError) and "os error" not in str(error).lower():
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        raise InputError(
            f"{folder}: can't write a checkpoint of {needed / 2**20:,.0f} MiB: {error}; "
            f"{free / 2**20:,.0f} MiB are free. Older checkpoints are whole: free some space "
            "or lower schedule.keep_checkpoints, then run the same command again."
        ) from error
