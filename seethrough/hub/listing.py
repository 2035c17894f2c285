"""What the hub has: files of a repository, models of an owner."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from seethrough.decompose.layout import family_of
from seethrough.engine.hub import clear_hub_errors
from seethrough.hub.download import digest, list_files
from seethrough.hub.online import require_online


def listing(name: str, revision: str | None = None) -> Iterator[str]:
    """Lines: of a repository OWNER/NAME its files with sizes and hashes, of an OWNER its models.

    Private ones are among them where the token may read them.

    Raises:
        InputError: when the hub doesn't have or give them.
    """
    require_online()
    if "/" not in name:
        yield from _models(name)
        return
    commit, files = list_files(name, revision)
    family = family_of({PurePosixPath(file.path).parts[0] for file in files})
    kind = "" if family is None else f"a model of {family}, "
    total = sum(file.size for file in files) / 1e6
    yield f"{name}@{commit}: {kind}{len(files)} files, {total:.1f} MB"
    width = max((len(f"{file.size:,}") for file in files), default=0)
    for file in sorted(files, key=lambda one: one.path):
        yield f"{file.size:>{width},}  {digest(file)[:12]}  {file.path}"


def _models(owner: str) -> Iterator[str]:
    from huggingface_hub import HfApi

    with clear_hub_errors(owner):
        models = list(HfApi().list_models(author=owner))
    yield f"{owner}: {len(models)} models"
    for model in sorted(models, key=lambda one: one.id):
        yield model.id + ("  private" if model.private else "")
