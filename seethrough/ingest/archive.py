"""Zip archives of painting programs: members are found by name and never unpacked to disk."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from PIL import Image

from seethrough.characters.form import Image8
from seethrough.data.pictures import as_rgba, decode
from seethrough.errors import InputError
from seethrough.ingest.drawing import MILLION, Budget
from seethrough.ingest.settings import IngestSettings

MAX_XML = 64 * MILLION
"""Largest description of layers in bytes; a thousand layers take about a million."""


class Archive:
    """A zip archive that is open for reading."""

    def __init__(self, path: Path, file: zipfile.ZipFile, settings: IngestSettings) -> None:
        self.path = path
        self._file = file
        self._max_bytes = 8 * settings.max_megapixels * MILLION
        self.names = frozenset(file.namelist())

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of a member, at most `limit`, by default eight for each pixel of a layer.

        Raises:
            InputError: when it is absent, damaged, too large, or its name leaves the archive.
        """
        member = PurePosixPath(name)
        if member.is_absolute() or ".." in member.parts or "\\" in name:
            raise InputError(
                f"{self.path}: names a file {name!r}, which lies outside of it: such an archive"
                " isn't read; save it again from its program"
            )
        try:
            info = self._file.getinfo(name)
            if info.file_size > (limit or self._max_bytes):
                raise InputError(
                    f"{self.path}: {name} would unpack to {info.file_size} bytes, more than"
                    f" {limit or self._max_bytes}: raise --max_megapixels if it is no bomb"
                )
            # zipfile stops at the size that it checked, whatever the member holds beyond.
            return self._file.read(info)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"{self.path}: has no {name}: save it again from its program"
            ) from error
        except Exception as error:
            # What zipfile and its decompressors raise has no class in common.
            raise InputError(f"{self.path}: {name} is damaged ({error}): copy it again") from error

    def xml(self, name: str) -> ElementTree.Element:
        """A member that is XML; one that declares entities is refused, as they may be a bomb."""
        content = self.read(name, MAX_XML)
        if b"<!ENTITY" in content.upper().replace(b"\0", b""):
            raise InputError(
                f"{self.path}: {name} declares entities, which no painting program does"
            )
        try:
            return ElementTree.fromstring(content)
        except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path}: {name} is no XML that can be read ({error}): save it again"
            ) from error

    def picture(self, name: str, budget: Budget) -> Image8:
        """Decode a member that is a picture: straight RGBA."""
        content = self.read(name)
        budget.layer(name, *open_picture(self.path, name, content).size)
        where = self.path / name
        return as_rgba(decode(where, content), where)

    def merged(self, names: tuple[str, ...], canvas: tuple[int, int]) -> Image8 | None:
        """The flat picture that the program saved under one of some names."""
        name = next((name for name in names if name in self.names), None)
        if name is None:
            return None
        where = self.path / name
        rgba = as_rgba(decode(where, self.read(name)), where)
        return rgba if rgba.shape[:2] == canvas[::-1] else None


def open_picture(path: Path, name: str, content: bytes | Path) -> Image.Image:
    """Open a picture, `name` of the source `path`, without decoding it; raises InputError."""
    try:
        # The budget says how large it may be.
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            return Image.open(BytesIO(content) if isinstance(content, bytes) else content)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: {name} is no picture that can be read ({error})") from error


@contextlib.contextmanager
def open_archive(path: Path, settings: IngestSettings) -> Iterator[Archive]:
    """Open a zip archive; raises InputError if it is none."""
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: no archive that can be read ({error}): save it again from its program"
        ) from error
    with file:
        yield Archive(path, file, settings)
