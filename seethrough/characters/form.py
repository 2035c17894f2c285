"""The one form of a layered picture on disk, whatever program drew it.

A character is a folder `<root>/<id>/`:

- `character.json`: name, canvas, the layers from back to front, where it comes from (`FORM`).
- `layers/0000.png` ...: straight-alpha RGBA, 8 bit, each cut to its box.
- `picture.png`, where the source has one: its own flat picture, straight RGBA, as large as the
  canvas.

Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs
import cv2
import numpy as np
import numpy.typing as npt

from seethrough.characters.blend import BLEND_MODES, Plane, draw, draw_atop
from seethrough.errors import InputError

FORM = 1
"""The version of the form that is written and read."""

INDEX = "character.json"
LAYERS = "layers"
PICTURE = "picture.png"
MAX_SIDE = 65_535
"""Largest side of a canvas or of a layer, in pixels."""

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the canvas; x2 and y2 are exclusive; may reach beyond it."""
Image8 = npt.NDArray[np.uint8]
"""(h, w, 4) straight RGBA."""


@attrs.frozen(kw_only=True)
class Provenance:
    """Where a character comes from."""

    source: str
    """The source's file or folder name."""
    sha256: str
    """Hex sha256 of the source's bytes."""
    tool: str
    """What read it."""
    version: str
    """The tool's version."""
    licence: str | None = None
    """Under which terms the art may be used, as whoever ingested it said."""
    variant: str | None = None
    """Which of several characters of the same source: the name of a pose."""


@attrs.frozen(kw_only=True)
class CharacterLayer:
    """One picture of a character."""

    index: int
    """Place from back to front, from 0."""
    id: str
    """The path, joined by "/"; where two layers share it, "#<index>" follows."""
    path: tuple[str, ...]
    """Groups from the root inwards, then the layer's own name."""
    file: Path
    box: Box
    blend: str
    """One of `BLEND_MODES`."""
    opacity: float
    """0 to 1; multiplies the alpha of the pixels."""
    clip: tuple[int, ...]
    """Layers whose alpha, without their opacity and own clips and be they visible or not, limits
    this one: their union, 1 - prod(1 - a). Empty: not clipped."""
    clip_inverted: bool
    """Show what lies outside of them instead."""
    visible: bool
    atop: bool = False
    """Painted onto the one layer that clips it, as painting programs do: it mixes with that layer's
    colour alone and leaves its alpha as it is. `opacity` has the other's in it."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the box."""
        x1, y1, x2, y2 = self.box
        return y2 - y1, x2 - x1

    def rgba(self) -> Image8:
        """Decode the pixels: (h, w, 4) uint8 straight RGBA, as large as the box."""
        return _decode(self.file, self.size)


@attrs.frozen(kw_only=True)
class Character:
    """A layered picture; pixels are decoded when asked for."""

    id: str
    name: str
    """As the source says it, in any script."""
    canvas: tuple[int, int]
    """Width and height in pixels."""
    layers: tuple[CharacterLayer, ...]
    """From back to front."""
    provenance: Provenance
    folder: Path

    def picture(self) -> Image8 | None:
        """Decode the source's own flat picture: (H, W, 4); None if it has none."""
        path = self.folder / PICTURE
        width, height = self.canvas
        return _decode(path, (height, width)) if path.exists() else None


@attrs.frozen(kw_only=True)
class _Layer:
    file: str
    path: tuple[str, ...]
    box: Box
    blend: str
    opacity: float
    clip: tuple[int, ...]
    clip_inverted: bool
    visible: bool
    atop: bool = False


@attrs.frozen(kw_only=True)
class _Index:
    form: int
    id: str
    name: str
    canvas: tuple[int, int]
    layers: tuple[_Layer, ...]
    provenance: Provenance


def _exactly(kind: type, *also: type) -> Any:
    """A hook that converts nothing: JSON already says what is what."""

    def check(value: Any, _kind: Any) -> Any:
        if type(value) not in (kind, *also):
            raise TypeError(f"expected {kind.__name__}, found {value!r}")
        return kind(value)

    return check


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, also in ((int, ()), (float, (int,)), (bool, ()), (str, ())):
        converter.register_structure_hook(kind, _exactly(kind, *also))
    return converter


_CONVERTER = _make_converter()


def slug(name: str) -> str:
    """A name as ASCII letters, digits and hyphens, at most 40; "character" if none remain."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "character"


def character_id(name: str, sha256: str, variant: str | None = None) -> str:
    """The folder's name: a slug of the name, and 12 hex digits of the source and its variant."""
    digest = hashlib.sha256(f"{sha256}\0{variant or ''}".encode()).hexdigest()
    return f"{slug(name)}-{digest[:12]}"


def layer_ids(paths: Sequence[Sequence[str]]) -> list[str]:
    """An id a layer, by its path; those that repeat get "#<index>"."""
    ids = ["/".join(path) for path in paths]
    while repeated := {name for name, count in Counter(ids).items() if count > 1}:
        ids = [f"{name}#{at}" if name in repeated else name for at, name in enumerate(ids)]
    return ids


def list_characters(root: Path) -> list[Path]:
    """The folders of the characters in a folder, sorted by name.

    Raises:
        InputError: when there is no such folder.
    """
    try:
        return sorted(
            item for item in root.iterdir() if item.name[0] != "." and (item / INDEX).is_file()
        )
    except OSError as error:
        raise InputError(
            f"{root}: no folder of characters ({error.strerror}): make one with"
            " python -m seethrough.ingest"
        ) from error


def read_character(folder: Path) -> Character:
    """Read a character, and check all that can be checked without decoding pixels.

    Raises:
        InputError: naming the file and the field, when something is missing or impossible.
    """
    path = folder / INDEX
    try:
        stored = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror}): ingest its source again"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}): ingest its source again") from error
    if isinstance(stored, dict) and stored.get("form") != FORM:
        raise InputError(
            f"{path}: form is {stored.get('form')!r}, this version reads {FORM}: ingest its source"
            " again"
        )
    try:
        index = _CONVERTER.structure(stored, _Index)
    except cattrs.BaseValidationError as error:
        faults = "; ".join(cattrs.transform_error(error, path="character"))
        raise InputError(f"{path}: {faults}") from error
    ids = layer_ids([layer.path for layer in index.layers])
    layers = tuple(
        CharacterLayer(
            index=at, id=ids[at], **{**attrs.asdict(layer, recurse=False), "file": folder / file}
        )
        for at, layer in enumerate(index.layers)
        for file in (layer.file,)
    )
    character = Character(
        id=index.id,
        name=index.name,
        canvas=index.canvas,
        layers=layers,
        provenance=index.provenance,
        folder=folder,
    )
    for fault in _faults(character, index):
        raise InputError(f"{path}: {fault}")
    return character


def _faults(character: Character, index: _Index) -> Iterator[str]:
    """What is impossible, by field."""
    width, height = character.canvas
    if character.id != character.folder.name:
        yield f"id is {character.id!r}, but the folder is named {character.folder.name!r}"
    if min(character.canvas) < 1 or max(character.canvas) > MAX_SIDE:
        yield f"canvas is {list(character.canvas)}; both sides lie within 1 and {MAX_SIDE}"
    picture = character.folder / PICTURE
    if picture.exists() and (wrong := _size_fault(picture, (height, width))):
        yield wrong
    files = Counter(layer.file for layer in index.layers)
    for layer, file in zip(character.layers, (entry.file for entry in index.layers), strict=True):
        field = f"layers[{layer.index}]"
        others = set(range(len(character.layers))) - {layer.index}
        if not re.fullmatch(rf"{LAYERS}/\d+\.png", file):
            yield f"{field}.file is {file!r}, which isn't of the kind {LAYERS}/0000.png"
        if files[file] > 1:
            yield f"{field}.file is {file!r}, as another layer's"
        if not layer.path:
            yield f"{field}.path is empty; it ends in the layer's name"
        if not all(1 <= side <= MAX_SIDE for side in layer.size):
            yield f"{field}.box is {list(layer.box)}, whose sides lie not within 1 and {MAX_SIDE}"
        if layer.blend not in BLEND_MODES:
            yield f"{field}.blend is {layer.blend!r}, none of {', '.join(BLEND_MODES)}"
        if not 0 <= layer.opacity <= 1:
            yield f"{field}.opacity is {layer.opacity}, not within 0 and 1"
        if not others.issuperset(layer.clip):
            yield f"{field}.clip is {list(layer.clip)}, which are not all other layers"
        if layer.atop and (len(layer.clip) != 1 or layer.clip_inverted):
            yield f"{field}.atop is true, but it isn't clipped to one layer"
        if wrong := _size_fault(layer.file, layer.size):
            yield f"{field}: {wrong}"


def _size_fault(path: Path, size: tuple[int, int]) -> str | None:
    """What is wrong with a PNG's size, by its header alone."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        return f"{path} can't be read ({error.strerror}): ingest its source again"
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return f"{path} is no PNG: ingest its source again"
    width, height = struct.unpack(">II", head[16:])
    if (height, width) != size:
        return f"{path} is {width} x {height} px, but {size[1]} x {size[0]} are expected"
    return None


def _decode(path: Path, size: tuple[int, int]) -> Image8:
    # imdecode, not imread: this one prints and takes no names of other scripts on some systems.
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror}): ingest its source again"
        ) from error
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None or pixels.shape != (*size, 4) or pixels.dtype != np.uint8:
        found = "no picture" if pixels is None else f"{pixels.shape} {pixels.dtype}"
        raise InputError(
            f"{path}: expected straight RGBA of {size[1]} x {size[0]} px and 8 bit, found {found}:"
            " ingest its source again"
        )
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), np.uint8)


def clip_alpha(character: Character, layer: CharacterLayer) -> Plane:
    """How much of a layer its clips leave: (h, w) float32 in [0, 1], as large as its box."""
    left = np.ones(layer.size, np.float32)
    if not layer.clip:
        return left
    for index in layer.clip:
        other = character.layers[index]
        inner, outer = _overlap(layer.box, other.box)
        left[inner] *= 1 - other.rgba()[outer][..., 3] / np.float32(255)
    return left if layer.clip_inverted else 1 - left


def flatten(character: Character) -> Image8:
    """Draw the visible layers over each other: (H, W, 4) uint8 straight RGBA.

    Sums run in premultiplied float32 and are rounded once, at the end.
    """
    width, height = character.canvas
    color = np.zeros((height, width, 3), np.float32)
    alpha = np.zeros((height, width), np.float32)
    shown = [layer for layer in character.layers if layer.visible and layer.opacity > 0]
    for layer in shown:
        if layer.atop:
            continue
        inner, window = _overlap(layer.box, (0, 0, width, height))
        own_color, own_alpha = _planes(layer)
        for other in shown:
            if other.atop and other.clip == (layer.index,):
                _paint(own_color, own_alpha, layer, other)
        own_alpha *= np.float32(layer.opacity)
        if layer.clip:
            own_alpha *= clip_alpha(character, layer)
        draw(color[window], alpha[window], own_color[inner], own_alpha[inner], layer.blend)
    return straight_rgba(color, alpha)


def _planes(layer: CharacterLayer) -> tuple[Plane, Plane]:
    """A layer's straight colour (h, w, 3) and alpha (h, w), float32 in [0, 1]."""
    pixels = layer.rgba().astype(np.float32) / 255
    return pixels[..., :3], pixels[..., 3]


def _paint(color: Plane, alpha: Plane, base: CharacterLayer, layer: CharacterLayer) -> None:
    """Mix a layer that lies atop of another one into that one's colour."""
    window, inner = _overlap(base.box, layer.box)
    own_color, own_alpha = _planes(layer)
    own_alpha *= np.float32(layer.opacity / base.opacity)
    draw_atop(color[window], alpha[window], own_color[inner], own_alpha[inner], layer.blend)


def straight_rgba(color: Plane, alpha: Plane) -> Image8:
    """Premultiplied (..., 3) and alpha (...), float in [0, 1], as straight RGBA of 8 bit.

    Where alpha is 0, colour is black.
    """
    covered = alpha[..., None]
    color = np.divide(color, covered, out=np.zeros_like(color), where=covered > 0)
    values = np.concatenate([color, covered], axis=-1)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _overlap(box: Box, other: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that two boxes share, as seen from each; empty where they share none."""
    x1, y1 = max(box[0], other[0]), max(box[1], other[1])
    x2, y2 = max(x1, min(box[2], other[2])), max(y1, min(box[3], other[3]))

    def within(frame: Box) -> tuple[slice, slice]:
        rows = slice(max(y1 - frame[1], 0), max(y2 - frame[1], 0))
        return rows, slice(max(x1 - frame[0], 0), max(x2 - frame[0], 0))

    return within(box), within(other)
