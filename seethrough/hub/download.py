"""A model from the hub into a folder: whole and compared with the hub's hashes, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from seethrough.decompose.layout import PARTS, family_of
from seethrough.engine.files import clear_disk_errors, file_sha256
from seethrough.engine.hub import MODEL_FILES, clear_hub_errors
from seethrough.errors import InputError
from seethrough.hub.online import require_online

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

FILES = (*MODEL_FILES, "*.md", "LICENSE*")
"""Patterns of what is transferred: a model's files, its card and its license."""


def download(
    repo: str, folder: Path, revision: str | None = None, patterns: Sequence[str] = ()
) -> str:
    """Fetch a model, or the files that match patterns, into a new folder; returns a line that says
    what is there.

    Until it is whole, it lies in `.download-NAME` beside the folder, from where the next call goes
    on: finished files stay, and of one that was cut off the rest is asked for, at most 10 MB of it
    again. huggingface_hub's own downloads begin such a file anew.

    Raises:
        InputError: when there is something else already, the hub has no such model or files or
            doesn't give them, the folder can't be written, the disk is too small, or what arrived
            isn't what the hub tells.
    """
    require_online()
    commit, every = list_files(repo, revision)
    files = [file for file in every if is_transferred(file.path, patterns or FILES)]
    family = family_of({PurePosixPath(file.path).parts[0] for file in files})
    if patterns and not files:
        raise InputError(
            f"hub model {repo} has no file like {' or '.join(patterns)}: `python -m seethrough.hub "
            f"list {repo}` names what it has"
        )
    if family is None and not patterns:
        raise InputError(
            f"hub model {repo} is no model of layers or depth: it has to have the folders"
            f" {', '.join(PARTS['layers'])}, or {', '.join(PARTS['depth'])}; others are fetched by"
            " their files, --files=PATTERN,..."
        )
    size = sum(file.size for file in files)
    said = (
        f"{folder}: {repo}@{commit}, {len(files)} files, {size / 1e6:.1f} MB, as the hub's hashes"
        " say"
    )
    if family is not None:
        said += f"; --{family}=file:{folder} decomposes with it"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if all(_agrees(folder / file.path, file) for file in files):
            return said
        raise InputError(f"{folder}: there is something else already: give a new folder")
    whole = folder.absolute()
    partial = whole.with_name(f".download-{whole.name}")
    try:
        with clear_disk_errors(folder.parent), _alone(partial):
            _fill(partial, repo, commit, files)
            os.replace(partial, folder)
    except OSError as error:
        raise InputError(
            f"{folder}: can't be written ({error.strerror}): give a folder that can be"
        ) from error
    return said


def list_files(repo: str, revision: str | None) -> tuple[str, list[RepoFile]]:
    """The commit that a revision means, and all of its files.

    Raises:
        InputError: when the hub doesn't have or give them, or one would lie outside of a folder.
    """
    from huggingface_hub import HfApi, RepoFile

    api = HfApi()
    with clear_hub_errors(repo, revision):
        commit = api.model_info(repo, revision=revision).sha
        assert commit is not None
        tree = list(api.list_repo_tree(repo, recursive=True, revision=commit))
    files = [item for item in tree if isinstance(item, RepoFile)]
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(
                f"hub model {repo}: a file {file.path} would lie outside of the folder"
            )
    return commit, files


def is_transferred(path: str, patterns: Sequence[str] = FILES) -> bool:
    """Whether a file of a repository matches a pattern, by default one of a model's."""
    return any(fnmatch(path, pattern) for pattern in patterns)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes from filling it too."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another process fills it: wait for that one") from error
        yield
    finally:
        os.close(handle)


def _fill(folder: Path, repo: str, commit: str, files: Sequence[RepoFile]) -> None:
    """Fetch what the folder lacks, and remove what is of another commit."""
    expected = {folder / file.path for file in files} | {_cut_off(folder, file) for file in files}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in expected]:
        path.unlink()
    missing = [file for file in files if not _agrees(folder / file.path, file)]
    needed = sum(file.size - _size(_cut_off(folder, file)) for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.parent}: {repo} needs {needed / 1e9:.1f} GB more there, {free / 1e9:.1f} GB"
            " are free: free some space, or give a folder on another disk"
        )
    for file in missing:
        _fetch(folder, repo, commit, file)


def _fetch(folder: Path, repo: str, commit: str, file: RepoFile) -> None:
    """Fetch a file, from where its download was cut off."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    partial = _cut_off(folder, file)
    partial.parent.mkdir(parents=True, exist_ok=True)
    if _size(partial) > file.size:
        partial.unlink()
    with partial.open("ab") as opened, clear_hub_errors(repo), clear_disk_errors(folder.parent):
        http_get(
            hf_hub_url(repo, file.path, revision=commit),
            opened,
            resume_size=opened.tell(),
            # A part of a compressed answer is no part of the file.
            headers={"Accept-Encoding": "identity", **build_hf_headers()},
            expected_size=file.size,
            displayed_filename=file.path,
        )
    if not _agrees(partial, file):
        partial.unlink()
        raise InputError(
            f"hub model {repo}: {file.path} arrived damaged, its hash isn't that of the hub, and"
            " was removed: run the same command again"
        )
    os.replace(partial, folder / file.path)


def _cut_off(folder: Path, file: RepoFile) -> Path:
    """Where the beginning of a file lies; its name tells the content."""
    path = folder / file.path
    return path.with_name(f"{path.name}.{digest(file)}.partial")


def digest(file: RepoFile) -> str:
    """sha256 of a large file, git's hash of any other."""
    return file.blob_id if file.lfs is None else file.lfs.sha256


def _agrees(path: Path, file: RepoFile) -> bool:
    """Whether a file is what the hub tells."""
    from huggingface_hub.utils.sha import git_hash

    if not path.is_file() or path.stat().st_size != file.size:
        return False
    found = git_hash(path.read_bytes()) if file.lfs is None else file_sha256(path)
    return found == digest(file)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
