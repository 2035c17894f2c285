"""Fetches models from the Hugging Face hub, and says why where it can't."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from seethrough.engine.files import is_disk_full
from seethrough.errors import InputError
from seethrough.recipe import Hub

MODEL_FILES = ("*.json", "*.txt", "*.safetensors")
"""Patterns of what a model consists of: nothing that is unpickled or run."""

UNREAD_FILES = ("*.fp16.*", "*.fp16-*")
"""Patterns of copies in half precision, which bases have beside their weights."""

Right = Literal["read", "write"]

_PAGES = "https://huggingface.co"
_INSTEAD = "or put its files in a folder and name that: file:FOLDER"
_VERBS = {"read": ("fetched", "from"), "write": ("written", "at")}


def download(source: Hub, where: str, reads: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of a hub repository in the cache, filled where it lacks what is read.

    Args:
        source: the repository.
        where: the field's path.
        reads: subfolders, of which `MODEL_FILES` are fetched, and patterns of files.

    Raises:
        InputError: naming the field, the model, the reason and what to do.
    """
    from huggingface_hub import snapshot_download

    try:
        with clear_hub_errors(source.repo, source.revision):
            folder = snapshot_download(
                source.repo,
                revision=source.revision,
                allow_patterns=[pattern for part in reads for pattern in _patterns(part)],
                ignore_patterns=list(UNREAD_FILES),
            )
    except InputError as error:
        raise InputError(f"{where}: {error}, {_INSTEAD}") from error
    return Path(folder)


def _patterns(part: str) -> list[str]:
    """A pattern of files alone, or those of a subfolder."""
    return [part] if "." in part else [f"{part}/{pattern}" for pattern in MODEL_FILES]


@contextlib.contextmanager
def clear_hub_errors(
    repo: str, revision: str | None = None, right: Right = "read"
) -> Iterator[None]:
    """Turn what huggingface_hub raises into an InputError: the model, the reason, what to do.

    `right` is what the token is used for. No message holds a token.
    """
    from httpx2 import HTTPError

    try:
        yield
    # huggingface_hub wraps errors of its threads in RuntimeError, and bad names are ValueErrors.
    except (OSError, HTTPError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        name = f"hub model {repo}" + (f"@{revision}" if revision else "")
        raise InputError(f"{name} {_explain(repo, revision, right, error)}") from error


def _explain(repo: str, revision: str | None, right: Right, error: Exception) -> str:
    """The reason and the remedy."""
    from huggingface_hub import constants, errors, get_token

    answer = _answer(error)
    if answer is None:
        return _explain_without_answer(right, error)
    status, said = answer
    token = get_token() is not None
    # A token in the environment goes before the one that `hf auth login` keeps.
    log_in = "set HF_TOKEN to" if os.environ.get("HF_TOKEN") else "`hf auth login` with"
    page = f"{_PAGES}/{repo}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"has no revision {revision or 'main'} (HTTP {status}): choose a branch, tag or "
            f"commit of {page}/commits/main"
        )
    if isinstance(error, errors.GatedRepoError):
        if token:
            return (
                f"is gated, and the token has no access (HTTP {status}{said}): accept the terms at "
                f"{page} with the token's account, {log_in} another"
            )
        return (
            f"is gated, and no token is there (HTTP {status}{said}): accept the terms at {page}, "
            "then `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        if token:
            return (
                f"was not found, or is private and not for the token's account (HTTP {status}): "
                f"check the name at {page}, {log_in} another"
            )
        return (
            f"was not found, or is private, and no token is there (HTTP {status}): check the name "
            f"at {page}, `hf auth login`"
        )
    if status == 401:
        return f"is refused, as the token is not valid (HTTP 401{said}): {log_in} another"
    if status == 403:
        return (
            f"is refused to the token (HTTP 403{said}): give it the right to {right} at "
            f"{_PAGES}/settings/tokens, {log_in} another"
        )
    verb, _ = _VERBS[right]
    return f"can't be {verb}: {constants.ENDPOINT} answers HTTP {status}{said}: try again later"


def _answer(error: BaseException | None) -> tuple[int, str] | None:
    """Status of the hub's answer among an error's causes, and `: ` with its message if any."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            said = response.headers.get("X-Error-Message")
            return response.status_code, f": {said}" if said else ""
        error = error.__cause__
    return None


def _explain_without_answer(right: Right, error: Exception) -> str:
    from httpx2 import HTTPError
    from huggingface_hub import constants

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    root = causes[-1]
    reason = f"{type(root).__name__}: {(str(root).splitlines() or [''])[0]}"
    if constants.HF_HUB_OFFLINE:
        return (
            f"is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch "
            "it: unset that (environment.hf_hub_offline in the recipe)"
        )
    if is_disk_full(error):
        return (
            f"can't be kept in {constants.HF_HUB_CACHE}, the disk is full ({reason}): free some "
            "space, or set environment.hf_home to a folder with more"
        )
    if isinstance(root, PermissionError) and right == "read":
        return f"can't be kept ({reason}): set environment.hf_home to a folder of yours"
    verb, preposition = _VERBS[right]
    said = f"can't be {verb} {preposition} {constants.ENDPOINT} ({reason})"
    unreached = any(isinstance(cause, OSError | HTTPError) for cause in causes)
    return f"{said}: connect to it" if unreached else said
