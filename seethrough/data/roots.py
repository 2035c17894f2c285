"""Data roots: folders in which inputs with relative paths are looked up, one after the other."""

from collections.abc import Iterable
from pathlib import Path

from seethrough.data.shards import is_file


def find_all(path: str | Path, folders: Iterable[str | Path]) -> list[Path]:
    """Every file or folder that `path` names below one of `folders`, in their order.

    The first is the one to take; others hide behind it. An absolute path names itself alone, and
    what lies in two of the folders by a link counts once.
    """
    found: list[Path] = []
    for place in _places(path, folders):
        if place.exists() and not any(place.samefile(other) for other in found):
            found.append(place)
    return found


def find_file(path: str | Path, folders: Iterable[str | Path]) -> Path | None:
    """The file that `path` names below the first of `folders` that has it, or None."""
    return next((place for place in _places(path, folders) if is_file(place)), None)


def looked_in(folders: Iterable[str | Path]) -> str:
    """`looked in A, in B and in the working directory C`, for messages."""
    cwd = Path.cwd()
    names = dict.fromkeys(
        f"in the working directory {cwd}" if Path(folder) in (Path(), cwd) else f"in {folder}"
        for folder in folders
    )
    *first, last = names
    return f"looked {', '.join(first)}{' and ' if first else ''}{last}"


def _places(path: str | Path, folders: Iterable[str | Path]) -> Iterable[Path]:
    return dict.fromkeys(Path(folder, path) for folder in folders)
