"""Reads folders of PNGs.

With a `layers.json`, everything is said there, layers from back to front:

    {"canvas": [2048, 2048],
     "layers": [{"file": "hair/back.png", "corner": [310, 120]},
                {"file": "face.png", "path": ["Head", "Face"], "opacity": 0.9, "visible": true,
                 "blend": "multiply", "clip": [0], "clip_inverted": false}]}

`file` alone is needed; `corner` is the picture's first pixel on the canvas, and `path` its groups
and name, by default the file's. Without `canvas` it is the size of `picture.png` or of the pictures
without a corner.

Without a `layers.json`, each PNG is a layer, back to front by path with numbers in their order, its
subfolders being its groups. `NAME@X,Y.png` lies at X, Y; the others are as large as the canvas.
A `picture.png` is the flat picture of all and no layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import cattrs

from seethrough.characters.form import BLEND_MODES, PICTURE, Image8
from seethrough.characters.write import NewLayer
from seethrough.data.pictures import read_picture
from seethrough.errors import InputError
from seethrough.ingest.archive import open_picture
from seethrough.ingest.drawing import Budget, Drawing
from seethrough.ingest.settings import IngestSettings

LIST = "layers.json"
_PLACED = re.compile(r"(.*)@(-?\d+),(-?\d+)")


@attrs.frozen(kw_only=True)
class _Entry:
    """A layer of `layers.json`."""

    file: str
    path: tuple[str, ...] | None = None
    corner: tuple[int, int] | None = None
    blend: str = "normal"
    opacity: float = 1.0
    clip: tuple[int, ...] = ()
    clip_inverted: bool = False
    visible: bool = True


@attrs.frozen(kw_only=True)
class _List:
    layers: tuple[_Entry, ...]
    canvas: tuple[int, int] | None = None
    name: str | None = None


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the one character of a folder of PNGs.

    Raises:
        InputError: when a file is missing, broken, too large, or lies outside of the folder.
    """
    listed = path / LIST
    told = _read_list(listed) if listed.is_file() else _List(layers=tuple(_by_name(path)))
    budget = Budget(path, settings)
    budget.count(len(told.layers))
    files = [_inside(path, entry.file) for entry in told.layers]
    picture = path / PICTURE
    sizes = {file: _size(file) for file in files}
    canvas = told.canvas or _canvas(path, told, files, sizes)
    budget.canvas(*canvas)
    _check(listed, told)

    def layers() -> Iterator[NewLayer]:
        for entry, file in zip(told.layers, files, strict=True):
            budget.layer(entry.file, *sizes[file])
            yield NewLayer(
                path=entry.path or PurePosixPath(entry.file).with_suffix("").parts,
                corner=entry.corner or (0, 0),
                rgba=read_picture(file),
                blend=entry.blend,
                opacity=entry.opacity,
                clip=entry.clip,
                clip_inverted=entry.clip_inverted,
                visible=entry.visible,
            )

    def flat() -> Image8 | None:
        if not picture.is_file():
            return None
        pixels = read_picture(picture)
        if pixels.shape[1::-1] != tuple(canvas):
            raise InputError(
                f"{picture}: is {pixels.shape[1]} x {pixels.shape[0]} px, the canvas {canvas[0]} x"
                f" {canvas[1]}: make them alike, or remove it"
            )
        return pixels

    own = [file for file in (listed, picture) if file.is_file()]
    yield Drawing(
        name=told.name or path.resolve().name,
        canvas=canvas,
        files=[*dict.fromkeys(files), *own],
        layers=layers(),
        tool="pillow",
        picture=flat,
    )


def _read_list(path: Path) -> _List:
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(json.loads(path.read_bytes()), _List)
    except cattrs.BaseValidationError as error:
        faults = "; ".join(cattrs.transform_error(error, path=LIST))
        raise InputError(f"{path}: {faults}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no JSON that can be read ({error})") from error


def _check(path: Path, told: _List) -> None:
    """Raise InputError for the first value of a list that is impossible."""
    count = len(told.layers)
    for index, entry in enumerate(told.layers):
        field = f"{path}: layers[{index}]"
        if entry.blend not in BLEND_MODES:
            raise InputError(f"{field}.blend is {entry.blend!r}, none of {', '.join(BLEND_MODES)}")
        if not 0 <= entry.opacity <= 1:
            raise InputError(f"{field}.opacity is {entry.opacity}, not within 0 and 1")
        if not all(0 <= other < count and other != index for other in entry.clip):
            raise InputError(
                f"{field}.clip is {list(entry.clip)}; it holds numbers of other layers, 0 to"
                f" {count - 1}"
            )


def _by_name(folder: Path) -> Iterator[_Entry]:
    """Every PNG of a folder and its subfolders but the flat picture, by path."""
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    names = [
        name.as_posix()
        for name in found
        if name.suffix.lower() == ".png"
        and name.as_posix() != PICTURE
        and not any(part.startswith(".") for part in name.parts)
    ]
    for name in sorted(names, key=_natural):
        *groups, last = PurePosixPath(name).with_suffix("").parts
        placed = _PLACED.fullmatch(last)
        yield _Entry(
            file=name,
            path=(*groups, placed[1] if placed else last),
            corner=(int(placed[2]), int(placed[3])) if placed else None,
        )


def _natural(name: str) -> list[Any]:
    """A key that sorts 2 before 10, and is the same everywhere."""
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece)
        for piece in re.split(r"(\d+)", name)
        if piece
    ]


def _inside(folder: Path, name: str) -> Path:
    """A file below a folder; refused where its name or a link leaves it."""
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder}: names a file {name!r}, which lies outside of the folder: copy it into it"
        )
    if not file.is_file():
        raise InputError(f"{folder / LIST}: names {name!r}, but there is no such file")
    return file


def _size(file: Path) -> tuple[int, int]:
    """Width and height, by the header."""
    with open_picture(file.parent, file.name, file) as image:
        return image.size


def _canvas(
    folder: Path, told: _List, files: list[Path], sizes: dict[Path, tuple[int, int]]
) -> tuple[int, int]:
    """What the flat picture or the layers without a corner say of the canvas."""
    if (folder / PICTURE).is_file():
        return _size(folder / PICTURE)
    whole = {
        sizes[file]: file
        for entry, file in zip(told.layers, files, strict=True)
        if entry.corner is None
    }
    if len(whole) == 1:
        return next(iter(whole))
    if not whole:
        raise InputError(
            f"{folder}: every layer has a corner, so nothing says how large the canvas is: add a"
            f" {PICTURE} of that size, or {LIST} with canvas"
        )
    (first, one), (second, other) = list(whole.items())[:2]
    raise InputError(
        f"{folder}: {one.name} is {first[0]} x {first[1]} px and {other.name} {second[0]} x"
        f" {second[1]}; layers without a corner are as large as the canvas: name them NAME@X,Y.png"
    )
