"""What a reader makes of a source, and the limits that it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from seethrough.characters.form import Image8
from seethrough.characters.write import NewLayer
from seethrough.errors import InputError
from seethrough.ingest.settings import IngestSettings

MILLION = 1_000_000


@attrs.frozen(kw_only=True, eq=False)
class Drawing:
    """One character that a source holds, before it is written."""

    name: str
    """In any script; mostly the source's."""
    canvas: tuple[int, int]
    """Width and height in pixels."""
    files: Sequence[Path]
    """All that its content depends on: they make its identity."""
    layers: Iterable[NewLayer]
    """From back to front; a generator decodes one at a time. It is not touched for a character
    that is there already."""
    tool: str
    """What read it: the name of a Python package."""
    notes: list[str] = attrs.field(factory=list)
    """What couldn't be taken over as it is. More may come while the layers are taken."""
    picture: Callable[[], Image8 | None] = lambda: None
    """The source's own flat picture, straight RGBA, as large as the canvas."""
    variant: str | None = None
    """Which of several of the same source, such as a pose."""


class Budget:
    """Counts what a source wants to be decoded, and refuses it before it is."""

    def __init__(self, path: Path, settings: IngestSettings) -> None:
        self._path = path
        self._settings = settings
        self._pixels = 0

    def canvas(self, width: int, height: int) -> None:
        """Check a canvas; raises InputError."""
        self._check("its canvas", width, height)

    def count(self, layers: int) -> None:
        """Check the number of layers; raises InputError."""
        if layers > self._settings.max_layers:
            raise InputError(
                f"{self._path}: has {layers} layers, at most {self._settings.max_layers} are read:"
                " merge some, or raise --max_layers"
            )

    def layer(self, name: str, width: int, height: int) -> None:
        """Count a layer that is about to be decoded; raises InputError."""
        self._check(f"layer {name!r}", width, height)
        self._pixels += width * height
        limit = 100 * self._settings.max_megapixels
        if self._pixels > limit * MILLION:
            raise InputError(
                f"{self._path}: its layers have more than {limit} million pixels together: merge"
                " some, or raise --max_megapixels"
            )

    def _check(self, what: str, width: int, height: int) -> None:
        limit = self._settings.max_megapixels
        if width * height > limit * MILLION:
            raise InputError(
                f"{self._path}: {what} has {width} x {height} pixels, at most {limit} million are"
                " read: make it smaller, or raise --max_megapixels"
            )
