"""The kinds of sources, how each is known, and which module reads it. Imports no readers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seethrough.errors import InputError

if TYPE_CHECKING:
    from seethrough.ingest.drawing import Drawing
    from seethrough.ingest.settings import IngestSettings

FINALS = ("final.png", "final.webp", "final.jxl")
"""What an extractor names the whole picture of a model."""


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of source."""

    name: str
    what: str
    """How a person knows it."""
    matches: Callable[[Path], bool]
    """Whether a file or folder is one, by its name and by what lies in it."""
    module: str
    """Where its reader is: `read(path, settings)`, which yields drawings."""

    def read(self, path: Path, settings: IngestSettings) -> Iterator[Drawing]:
        """Yield the characters of a source.

        Raises:
            InputError: naming the source, when it is broken or too large.
        """
        return importlib.import_module(self.module).read(path, settings)


def _ends_in(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(suffixes) and path.is_file()


def _is_extraction(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("meta.yaml", *FINALS))


def _is_live2d(path: Path) -> bool:
    """The .model3.json where there is one: it names the .moc3 and all else."""
    name = path.name.lower()
    alone = name.endswith(".moc3") and not any(path.parent.glob("*.model3.json"))
    return (alone or name.endswith(".model3.json")) and path.is_file()


def _has_layers_json(path: Path) -> bool:
    return (path / "layers.json").is_file()


_PNGS = Kind(
    name="pngs",
    what="folder of PNGs: with layers.json, or given by name (seethrough/ingest/pngs.py)",
    matches=_has_layers_json,
    module="seethrough.ingest.pngs",
)
KINDS: tuple[Kind, ...] = (
    Kind(
        name="psd",
        what="layered .psd or .psb",
        matches=_ends_in(".psd", ".psb"),
        module="seethrough.ingest.psd",
    ),
    Kind(
        name="ora",
        what="OpenRaster, .ora",
        matches=_ends_in(".ora"),
        module="seethrough.ingest.ora",
    ),
    Kind(
        name="krita",
        what="Krita, .kra",
        matches=_ends_in(".kra"),
        module="seethrough.ingest.krita",
    ),
    Kind(
        name="live2d",
        what="Live2D .model3.json, or a .moc3 without one; needs the extra [live2d]",
        matches=_is_live2d,
        module="seethrough.ingest.live2d",
    ),
    Kind(
        name="extraction",
        what="folder that CubismPartExtr made: meta.yaml, final.png and a PNG a drawable",
        matches=_is_extraction,
        module="seethrough.ingest.extraction",
    ),
    _PNGS,
)
"""The first that matches reads a source."""


def kind_of(path: Path) -> Kind | None:
    """The kind of a file or folder; None if it is no source."""
    return next((kind for kind in KINDS if kind.matches(path)), None)


def find_sources(given: Sequence[Path]) -> Iterator[tuple[Path, Kind | InputError]]:
    """Every source among the given files and folders, or below them, sorted; each once.

    Files of no kind below a folder are passed over; what is given by name and is or holds no
    source comes with an error. A folder of PNGs that says nothing of itself is a source only where
    it is given by name: most PNGs beside or below other things are previews and textures. Links to
    folders are not followed, so that a walk ends.
    """
    seen: set[Path] = set()
    for path in given:
        found = list(_walk(path))
        if not found and path.is_dir() and next(path.rglob("*.png"), None):
            found = [(path, _PNGS)]
        if not found:
            yield path, _nothing(path)
        for source, kind in found:
            if (where := source.resolve()) not in seen:
                seen.add(where)
                yield source, kind


def _walk(path: Path) -> Iterator[tuple[Path, Kind | InputError]]:
    try:
        if kind := kind_of(path):
            yield path, kind
        elif path.is_dir():
            # scandir's names in one order everywhere.
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                if not entry.name.startswith(".") and not (entry.is_symlink() and entry.is_dir()):
                    yield from _walk(Path(entry.path))
    except OSError as error:
        yield path, InputError(f"{path}: can't be read ({error.strerror}): make it readable")


def _nothing(path: Path) -> InputError:
    if not path.exists():
        return InputError(f"{path}: no such file or folder")
    known = "\n  ".join(kind.what for kind in KINDS)
    return InputError(f"{path}: is and holds nothing of a kind that is read:\n  {known}")
