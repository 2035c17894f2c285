"""Reads what CubismPartExtr writes of a Live2D model.

A folder with `final.png`, `meta.yaml` and a picture a drawable, named
`<part>/.../<render order>-<drawable id>-<draw order>.png`; colours are premultiplied, and the boxes
stand in `meta.yaml` under the render order. Its pictures are clipped already, and which blend mode
a drawable has is not recorded.

Mended on the way: ids with hyphens stay whole, pictures may have another suffix than `final`, and
boxes are checked against the pictures. An old folder without `meta.yaml` may have its boxes in
`transform_stats.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import yaml

from seethrough.characters.form import Box, Image8
from seethrough.characters.write import NewLayer
from seethrough.data.layout import straight
from seethrough.data.pictures import read_picture
from seethrough.errors import InputError
from seethrough.ingest.archive import open_picture
from seethrough.ingest.drawing import MILLION, Budget, Drawing
from seethrough.ingest.kinds import FINALS
from seethrough.ingest.settings import IngestSettings

META = "meta.yaml"
STATS = "transform_stats.json"
SUFFIXES = (".png", ".webp")
AGAIN = "extract the model again into an empty folder"
MAX_META = 1000 * MILLION
"""Largest `meta.yaml` in bytes."""

_DRAWABLE = re.compile(r"(\d+)-(.+)-(\d+)")
_MESH = re.compile(rb"(vertex_indices|vertex_pos)[\"']?\s*:\s*\[[-+0-9.eE,\s]*\]")
"""Numbers that nothing here needs, and that are nearly all of the file."""


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the one character of an extraction.

    Raises:
        InputError: when a file is missing or broken, or boxes and pictures disagree.
    """
    notes: list[str] = []
    final = _final(path, notes)
    drawables = _drawables(path)
    meta = _read_meta(path / META)
    size = _size(final) if final else None
    boxes, canvas, crop = _places(path, meta, size)
    budget = Budget(path, settings)
    budget.canvas(*canvas)
    budget.count(len(drawables))
    if missing := sorted(set(boxes) - set(drawables)):
        notes.append(f"{len(missing)} drawables of {META} have no picture: they have no pixels")

    def layers() -> Iterator[NewLayer]:
        for order, file in sorted(drawables.items()):
            width, height = _size(file)
            box = boxes.get(order, (0, 0, width, height))
            if order not in boxes and (width, height) != canvas:
                raise InputError(f"{file}: no box is known of render order {order}: {AGAIN}")
            if (box[2] - box[0], box[3] - box[1]) != (width, height):
                raise InputError(
                    f"{file}: is {width} x {height} px, but its box is {list(box)}: {AGAIN}"
                )
            budget.layer(file.name, width, height)
            match = _DRAWABLE.fullmatch(file.stem)
            assert match is not None, "its name was matched when it was found"
            yield NewLayer(
                path=(*file.relative_to(path).parent.parts, match[2]),
                corner=box[:2],
                rgba=straight(read_picture(file)),
            )

    def picture() -> Image8 | None:
        if final is None:
            return None
        pixels = straight(read_picture(final))
        whole = np.zeros((canvas[1], canvas[0], 4), np.uint8)
        x1, y1, x2, y2 = crop
        whole[y1:y2, x1:x2] = pixels
        return whole

    known = [file for file in (path / META, path / STATS, final) if file and file.is_file()]
    yield Drawing(
        name=path.resolve().name,
        canvas=canvas,
        files=[*drawables.values(), *known],
        layers=layers(),
        tool="seethrough",
        notes=notes,
        picture=picture,
    )


def _final(folder: Path, notes: list[str]) -> Path | None:
    """The picture of the whole model; PNG before others, whichever was written last."""
    found = [folder / name for name in FINALS if (folder / name).is_file()]
    readable = [file for file in found if file.suffix in SUFFIXES]
    if found and not readable:
        raise InputError(
            f"{found[0]}: JPEG XL isn't read, and compressed copies have lost the places of their"
            " drawables: give the extraction that they were made from"
        )
    if len(found) > 1:
        notes.append(f"{readable[0].name} is taken, {', '.join(f.name for f in found[1:])} is not")
    return readable[0] if readable else None


def _drawables(folder: Path) -> dict[int, Path]:
    """Pictures of drawables by render order."""
    found: dict[int, Path] = {}
    for file in sorted(folder.rglob("*")):
        match = _DRAWABLE.fullmatch(file.stem)
        if match is None or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        other = found.setdefault(int(match[1]), file)
        if other is not file:
            raise InputError(
                f"{folder}: {other.relative_to(folder)} and {file.relative_to(folder)} have the"
                f" same render order: {AGAIN}"
            )
    if not found:
        raise InputError(f"{folder}: has no picture of a drawable, such as 12-ArtMesh3-500.png")
    return found


def _read_meta(path: Path) -> Mapping[str, Any] | None:
    """Read `meta.yaml` without its meshes, by libyaml; None if there is none."""
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_META:
        raise InputError(f"{path}: has more than {MAX_META // MILLION} million bytes")
    # They are cut out first: to make Python numbers of a dense model takes seconds.
    text = _MESH.sub(rb"\1: []", path.read_bytes())
    try:
        meta = yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" in line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{path}: no YAML that can be read{at} ({problem}): {AGAIN}") from error
    if not isinstance(meta, dict):
        raise InputError(f"{path}: holds {type(meta).__name__}, not what an extractor writes")
    return meta


def _places(
    folder: Path, meta: Mapping[str, Any] | None, final: tuple[int, int] | None
) -> tuple[dict[int, Box], tuple[int, int], Box]:
    """The boxes of drawables by render order, the canvas, and where the whole picture lies."""
    if meta is None:
        if final is None or not (folder / STATS).is_file():
            raise InputError(
                f"{folder / META}: missing, and with it the places of the drawables: {AGAIN}"
            )
        return _stats(folder / STATS), final, (0, 0, *final)
    path = folder / META
    size = meta.get("canvas_size")
    if not _whole(size, 2) or min(size) < 1:
        raise InputError(f"{path}: canvas_size is {size!r}, not [width, height]: {AGAIN}")
    canvas = (size[0], size[1])
    crop = _box(path, "crop_xyxy", meta.get("crop_xyxy", [0, 0, *canvas]))
    if final is not None:
        if (crop[2] - crop[0], crop[3] - crop[1]) != final:
            raise InputError(
                f"{path}: crop_xyxy is {list(crop)}, but the whole picture is {final[0]} x"
                f" {final[1]} px: {AGAIN}"
            )
        if min(crop) < 0 or crop[2] > canvas[0] or crop[3] > canvas[1]:
            raise InputError(f"{path}: crop_xyxy is {list(crop)}, beyond its canvas: {AGAIN}")
    drawables = meta.get("drawables", {})
    # The extractor's writer makes a list of orders without a gap.
    entries = enumerate(drawables) if isinstance(drawables, list) else dict(drawables or {}).items()
    boxes: dict[int, Box] = {}
    for order, entry in entries:
        if not isinstance(order, int) or not isinstance(entry, dict):
            raise InputError(f"{path}: drawables[{order!r}] is no drawable: {AGAIN}")
        if "crop_xyxy" in entry:
            boxes[order] = _box(path, f"drawables[{order}].crop_xyxy", entry["crop_xyxy"])
    return boxes, canvas, crop


def _stats(path: Path) -> dict[int, Box]:
    """Boxes that an older extraction keeps as x, y, width, height."""
    try:
        stored = json.loads(path.read_bytes())
        boxes = {int(order): entry["bbox"] for order, entry in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: can't be read ({error!r}): {AGAIN}") from error
    result: dict[int, Box] = {}
    for order, box in boxes.items():
        if not _whole(box, 4):
            raise InputError(f"{path}: {order}.bbox is {box!r}, not four whole numbers: {AGAIN}")
        x, y, width, height = box
        result[order] = _box(path, f"{order}.bbox", [x, y, x + width, y + height])
    return result


def _whole(value: Any, count: int) -> TypeGuard[list[int]]:
    """Whether a value is a list of so many whole numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(type(number) is int for number in value)
    )


def _box(path: Path, field: str, value: Any) -> Box:
    if not _whole(value, 4) or value[2] < value[0] or value[3] < value[1]:
        raise InputError(f"{path}: {field} is {value!r}, not [x1, y1, x2, y2]: {AGAIN}")
    return value[0], value[1], value[2], value[3]


def _size(file: Path) -> tuple[int, int]:
    """Width and height, by the header."""
    with open_picture(file.parent, file.name, file) as image:
        return image.size
