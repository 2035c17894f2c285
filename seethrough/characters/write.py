"""Writes a character in the form that `seethrough.characters.form` reads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import attrs
import cv2
import numpy as np

from seethrough.characters.form import (
    FORM,
    INDEX,
    LAYERS,
    MAX_SIDE,
    PICTURE,
    Box,
    Image8,
    Provenance,
    character_id,
    read_character,
)
from seethrough.engine.files import clear_disk_errors, file_sha256, sync_file, sync_folder
from seethrough.errors import InputError


@attrs.frozen(kw_only=True, eq=False)
class NewLayer:
    """A layer that is to be written."""

    path: tuple[str, ...]
    """Groups from the root inwards, then the layer's own name."""
    corner: tuple[int, int]
    """x and y of the picture's first pixel on the canvas; may lie beyond it."""
    rgba: Image8
    """(h, w, 4) uint8 straight RGBA; it is cut to where alpha is above 0."""
    blend: str = "normal"
    opacity: float = 1.0
    clip: tuple[int, ...] = ()
    """Indices of layers, by the order in which they are given."""
    clip_inverted: bool = False
    visible: bool = True
    atop: bool = False
    """See `CharacterLayer.atop`."""


def write_character(
    root: Path,
    *,
    name: str,
    canvas: tuple[int, int],
    layers: Iterable[NewLayer],
    provenance: Provenance,
    picture: Image8 | None = None,
) -> Path:
    """Write a character; returns its folder `root/<id>`, which is there whole or not at all.

    Layers are taken one at a time, so that a generator needs the memory of one. Those without a
    pixel above alpha 0 are left out, and clips follow. What is there with the same content stays,
    with its labels.

    Args:
        root: the folder of characters; it is made.
        name: the character's, in any script.
        canvas: width and height in pixels.
        layers: from back to front.
        provenance: where it comes from; with the name it makes the id.
        picture: the source's own flat picture, (H, W, 4) straight RGBA.

    Raises:
        InputError: when the folder holds another content, nothing is left to write, a value is
            impossible, or the disk is full.
    """
    identity = character_id(name, provenance.sha256, provenance.variant)
    if min(canvas) < 1 or max(canvas) > MAX_SIDE:
        raise InputError(f"{name}: its canvas is {canvas[0]} x {canvas[1]} px, not 1 to {MAX_SIDE}")
    target = root / identity
    with clear_disk_errors(root):
        try:
            root.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=".partial-", dir=root))
        except OSError as error:
            raise _cannot(root, error) from error
        try:
            # As deep as the target, under the name that its index tells.
            folder = made / identity
            (folder / LAYERS).mkdir(parents=True)
            entries = _write_layers(folder, layers)
            if not entries:
                raise InputError(f"{name}: no layer has a pixel, so there is no character in it")
            if picture is not None:
                _write_png(folder / PICTURE, picture)
            index = {
                "form": FORM,
                "id": identity,
                "name": name,
                "canvas": list(canvas),
                "layers": entries,
                "provenance": attrs.asdict(provenance),
            }
            (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")
            sync_file(folder / INDEX)
            sync_folder(folder / LAYERS)
            sync_folder(folder)
            read_character(folder)
            _put(folder, target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return target


def _write_layers(folder: Path, layers: Iterable[NewLayer]) -> list[dict[str, object]]:
    """Write the layers that have pixels; returns their entries in the index."""
    given: list[tuple[NewLayer, Box | None]] = []
    for index, layer in enumerate(layers):
        box = _content_box(layer)
        if box is not None:
            left, top = layer.corner
            x1, y1, x2, y2 = box
            _write_png(_file(folder, index), layer.rgba[y1 - top : y2 - top, x1 - left : x2 - left])
        given.append((attrs.evolve(layer, rgba=_NOTHING), box))
    # A clip without a pixel hides what it clips, so such a one is kept as a transparent pixel.
    used = {other for layer, box in given if box is not None for other in layer.clip}
    for index in sorted(used.intersection(range(len(given)))):
        layer, box = given[index]
        if box is None:
            x, y = layer.corner
            _write_png(_file(folder, index), _NOTHING)
            given[index] = layer, (x, y, x + 1, y + 1)
    places = [index for index, (_, box) in enumerate(given) if box is not None]
    return [
        {
            "file": _file(Path(), index).as_posix(),
            "path": list(layer.path),
            "box": list(box),
            "blend": layer.blend,
            "opacity": float(layer.opacity),
            "clip": [places.index(other) if other in places else other for other in layer.clip],
            "clip_inverted": layer.clip_inverted,
            "visible": layer.visible,
            "atop": layer.atop,
        }
        for index, (layer, box) in enumerate(given)
        if box is not None
    ]


_NOTHING = np.zeros((1, 1, 4), np.uint8)


def _file(folder: Path, index: int) -> Path:
    return folder / LAYERS / f"{index:04d}.png"


def _content_box(layer: NewLayer) -> Box | None:
    """Where a layer's alpha is above 0, on the canvas; None where it is nowhere."""
    if layer.rgba.dtype != np.uint8 or layer.rgba.ndim != 3 or layer.rgba.shape[2] != 4:
        raise ValueError(f"{layer.path}: not (h, w, 4) uint8, but {layer.rgba.shape}")
    solid = layer.rgba[..., 3] > 0
    rows = np.flatnonzero(solid.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(solid.any(axis=0))
    x, y = layer.corner
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1


def _write_png(path: Path, rgba: Image8) -> None:
    done, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    if not done:
        raise ValueError(f"{path}: OpenCV encodes no picture of shape {rgba.shape}")
    with path.open("wb") as file:
        file.write(data.data)
        file.flush()
        os.fsync(file.fileno())


def _put(folder: Path, target: Path) -> None:
    """Move a whole character to its place; the same content that is there already stays."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if not target.is_dir():
            raise _cannot(target, error) from error
        for path in (item for item in folder.rglob("*") if item.is_file()):
            old = target / path.relative_to(folder)
            if not old.is_file() or file_sha256(old) != file_sha256(path):
                raise InputError(
                    f"{target}: holds another content of the same source: {old.name} differs; move"
                    " it away, or choose another --out"
                ) from error
    sync_folder(target.parent)


def _cannot(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: can't be written ({error.strerror or error}): make it writable, or choose another"
        " --out"
    )
