"""The images that a command line names."""

from collections.abc import Sequence
from pathlib import Path

import attrs

from seethrough.data.sample_list import read_sample_list
from seethrough.decompose.packaged import EXAMPLE, FOLDER, packaged_example
from seethrough.errors import InputError

_LISTS = (".txt", ".json", ".json.gz")
_OTHER_PICTURES = (".gif", ".tif", ".tiff", ".avif", ".psd", ".jp2", ".tga")
"""Suffixes of pictures that a folder is not searched for."""


@attrs.frozen
class Image:
    """A picture to work on, and the name of its results: the file's, without the suffix."""

    path: Path
    name: str


def find_images(words: Sequence[str], packaged: Path = FOLDER) -> list[Image]:
    """The pictures, those in folders, and those in lists; each once, in this order.

    The word `example` is the picture in the folder `packaged`, unless something here has that name.

    Raises:
        InputError: when one is absent, a folder or list has none, or two would have one name.
    """
    paths: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir() or path.name.endswith(_LISTS):
            paths += read_sample_list(path)
        elif path.exists():
            paths.append(path)
        elif word == Path(EXAMPLE).stem:
            paths.append(packaged_example(packaged))
        else:
            raise InputError(f"{path}: no such picture or folder")
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise InputError(
                f"{path}: its results would have the name {path.stem!r}, as those of {other}:"
                " rename one, or give them apart, each with another --out"
            )
    return [Image(path, name) for name, path in found.items()]


def left_out(words: Sequence[str]) -> list[Path]:
    """Pictures in the folders whose kind a folder is not searched for; by name they are read."""
    folders = [Path(word) for word in words if Path(word).is_dir()]
    return [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _OTHER_PICTURES
    ]
