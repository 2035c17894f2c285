"""Reads sources one after the other; a bad one is told and the rest goes on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from seethrough.characters.form import Provenance, character_id, flatten, read_character
from seethrough.characters.write import NewLayer, write_character
from seethrough.decompose.lock import locked
from seethrough.engine.files import file_sha256, is_disk_full
from seethrough.errors import InputError
from seethrough.ingest.compare import agreement
from seethrough.ingest.drawing import Drawing
from seethrough.ingest.kinds import Kind, find_sources
from seethrough.ingest.settings import IngestSettings


def plan(given: Sequence[Path]) -> list[str]:
    """Print what would be read; returns what could not be, a line each."""
    failures: list[str] = []
    for path, kind in find_sources(given):
        if isinstance(kind, Kind):
            print(f"{kind.name:<10} {path}")
        else:
            failures.append(str(kind))
    return failures


def ingest(given: Sequence[Path], settings: IngestSettings, out: Path) -> list[str]:
    """Read all sources into `out`; returns what failed, a line each.

    Raises:
        InputError: when the disk is full, or another process is writing there.
    """
    made = there = 0
    failures: list[str] = []
    with locked(out):
        # What a killed run left; nobody else writes here now.
        for rest in out.glob(".partial-*"):
            shutil.rmtree(rest, ignore_errors=True)
        for path, kind in find_sources(given):
            if not isinstance(kind, Kind):
                failures.append(str(kind))
                continue
            try:
                for drawing in kind.read(path, settings):
                    new, lines = _take(path, drawing, settings, out)
                    made, there = made + new, there + (not new)
                    print(*lines, sep="\n  ", flush=True)
            except Exception as error:
                if is_disk_full(error) or (
                    isinstance(error.__cause__, Exception) and is_disk_full(error.__cause__)
                ):
                    raise
                failures.append(_reason(path, error))
                print(f"{path}: failed", flush=True)
    print(f"made {made}, there already {there}, failed {len(failures)}: {out}")
    return failures


def _take(
    path: Path, drawing: Drawing, settings: IngestSettings, out: Path
) -> tuple[bool, list[str]]:
    """Write one character unless it is there; returns whether it is new, and what to say."""
    sha256 = _hash(path, drawing.files)
    identity = character_id(drawing.name, sha256, drawing.variant)
    of_source = identity[-12:]
    if twin := next(iter(sorted(out.glob(f"*-{of_source}"))), None):
        same = "" if twin.name == identity else ", of the same content under another name"
        return False, [f"{path}: there already as {twin.name}{same}"]
    notes = drawing.notes
    folder = write_character(
        out,
        name=drawing.name,
        canvas=drawing.canvas,
        layers=_watched(drawing.layers, notes),
        provenance=Provenance(
            source=path.name,
            sha256=sha256,
            tool=drawing.tool,
            version=importlib.metadata.version(drawing.tool),
            licence=settings.licence,
            variant=drawing.variant,
        ),
        picture=drawing.picture(),
    )
    character = read_character(folder)
    told = f"{path}: {character.id}, {len(character.layers)} layers"
    picture = character.picture()
    if picture is not None:
        told += f", {agreement(flatten(character), picture)} against its own picture"
    return True, [told, *notes]


def _watched(layers: Iterable[NewLayer], notes: list[str]) -> Iterator[NewLayer]:
    """Pass layers on, and note the empty ones, which are not written."""
    for layer in layers:
        if not layer.rgba[..., 3].any():
            notes.append(f"{'/'.join(layer.path)}: has no pixel and is left out")
        yield layer


def _hash(source: Path, files: Sequence[Path]) -> str:
    """sha256 of a file, or of a folder's relative names and bytes in sorted order."""
    if list(files) == [source]:
        return file_sha256(source)
    folder = source if source.is_dir() else source.parent
    names = sorted((file.relative_to(folder).as_posix(), file) for file in files)
    total = hashlib.sha256()
    for name, file in names:
        total.update(f"{name}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            f"{path}: needs more memory than there is: lower --max_megapixels to refuse it sooner"
        )
    return f"{path}: can't be read ({type(error).__name__}: {error}): save it again"
