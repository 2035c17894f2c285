"""A folder in the published layout to the hub: one commit, then compared with the hub's hashes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from seethrough.decompose.layout import Family, family_of
from seethrough.engine.hub import clear_hub_errors
from seethrough.errors import InputError
from seethrough.hub.download import FILES, is_transferred
from seethrough.hub.online import require_online
from seethrough.hub.settings import Upload

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_BESIDE = ("README.md", ".gitattributes", ".gitignore", "LICENSE", "LICENSE.md")
"""What any repository may hold beside a model."""


def find_family(folder: Path) -> Family | None:
    """What an exported folder holds; None when it is none."""
    return family_of({path.name for path in folder.iterdir()}) if folder.is_dir() else None


def check_repo(repo: str, family: Family | None, settings: Upload) -> None:
    """Raise InputError where a model of this family can't be committed; None means other files.

    That is: without a token or with one that is refused, when the hub is out of reach, when the
    repository is public and has to be private, or holds something else.
    """
    from huggingface_hub import HfApi, get_token

    require_online()
    if get_token() is None:
        raise InputError(
            f"hub model {repo} can't be written without a token: `hf auth login` with one that has"
            " the right to write, or set HF_TOKEN to it"
        )
    if settings.revision is not None and re.fullmatch("[0-9a-f]{40}", settings.revision):
        raise InputError(f"--revision: {settings.revision} is a commit: give a branch's name")
    with clear_hub_errors(repo, settings.revision, "write"):
        names = _names(HfApi(), repo, settings)
    there = names.difference(_BESIDE)
    if family is not None and there and family_of(names) != family:
        raise InputError(
            f"hub model {repo} holds {', '.join(sorted(there))}, which is no model of {family}:"
            " give another name"
        )


def _names(api: HfApi, repo: str, settings: Upload) -> set[str]:
    """Names at the top of the branch to commit to; empty if there is no repository."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        is_private = api.model_info(repo).private
    except RepositoryNotFoundError:
        for kind in ("dataset", "space"):
            if api.repo_exists(repo, repo_type=kind):
                raise InputError(f"{repo} is a {kind} of the hub: give a model's name") from None
        return set()
    if settings.private and not is_private:
        raise InputError(
            f"--private: hub model {repo} is public already: make it private in its settings, or"
            " give another name"
        )
    try:
        return {item.path for item in api.list_repo_tree(repo, revision=settings.revision)}
    except RevisionNotFoundError:
        return {item.path for item in api.list_repo_tree(repo)}  # what a new branch begins with


def upload(folder: Path, repo: str, settings: Upload) -> str:
    """Commit the folder's files to the repository; returns a line that says where they are.

    The folders of a model are replaced whole, in one commit: a reader sees the former model or this
    one. Other files of the repository stay, and all do where patterns choose the files. What
    arrived of an upload that was interrupted isn't sent again: without Xet whole files, with it
    their chunks.

    Raises:
        InputError: as `check_repo`, when the repository holds another family's model, when no file
            matches the patterns, or when the hub holds other bytes afterwards.
    """
    from huggingface_hub import HfApi

    patterns = settings.files or FILES
    family = None if settings.files else find_family(folder)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not any(is_transferred(path, patterns) for path in files):
        raise InputError(f"{folder}: holds no file like {' or '.join(patterns)}")
    check_repo(repo, family, settings)
    api = HfApi()
    with clear_hub_errors(repo, settings.revision, "write"):
        api.create_repo(repo, private=settings.private or None, exist_ok=True)
        if settings.revision is not None:
            api.create_branch(repo, branch=settings.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=settings.revision,
            commit_message=settings.message or (f"Model of {family}" if family else "Files"),
            allow_patterns=list(patterns),
            delete_patterns=None
            if settings.files
            else [f"{path.name}/*" for path in folder.iterdir() if path.is_dir()],
        )
        found = api.verify_repo_checksums(repo, revision=commit.oid, local_dir=folder)
    differ = [mismatch["path"] for mismatch in found.mismatches]
    differ += list(found.extra_paths)
    differ = [path for path in differ if is_transferred(path, patterns)]
    if differ:
        raise InputError(
            f"hub model {repo}@{commit.oid} lacks {', '.join(differ)} as {folder} holds it: run the"
            " same command again"
        )
    said = f"{folder} is {commit.commit_url}, as its hashes say"
    return said if family is None else f"{said}; --{family}=hub:{repo}"
