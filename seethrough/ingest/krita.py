"""Reads Krita files: paint layers of 8 and 16 bit with their groups, clips and transparency masks.

No maintained library reads their pixels, so the tiles are decoded here: 64 px squares, their bytes
plane by plane, packed with LZF. What Krita computes (vectors, filters, fills, clones, files) is
told and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from seethrough.characters.form import BLEND_MODES, Box, Image8
from seethrough.errors import InputError
from seethrough.ingest.archive import Archive, open_archive
from seethrough.ingest.drawing import Budget, Drawing
from seethrough.ingest.settings import IngestSettings
from seethrough.ingest.tree import Group, Leaf, Mask, flat_layers, paste

BLENDS = {
    **{mode.replace("-", "_"): mode for mode in BLEND_MODES},
    "dodge": "color-dodge",
    "burn": "color-burn",
    "diff": "difference",
    "linear_dodge": "add",
    "linear light": "linear-light",
    "soft_light_svg": "soft-light",
    "hard mix": "hard-mix",
    "darker color": "darker-color",
    "lighter color": "lighter-color",
}
"""The form's name of Krita's composite operators."""
COLORS = {"RGBA": 4, "RGBA16": 8, "GRAYA": 2, "GRAYA16": 4}
"""Bytes a pixel of the colour spaces that are read; blue comes first."""

_HEADER = re.compile(
    rb"VERSION 2\nTILEWIDTH (\d+)\nTILEHEIGHT (\d+)\nPIXELSIZE (\d+)\nDATA (\d+)\n"
)
_TILE = re.compile(rb"(-?\d+),(-?\d+),LZF,(\d+)\n")
_FAR = 1 << 20
"""Tiles further away than this many pixels are taken for damage."""


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the one character of a Krita file.

    Raises:
        InputError: when it is broken, leaves its archive, or is beyond the limits.
    """
    with open_archive(path, settings) as archive:
        budget = Budget(path, settings)
        document = archive.xml("maindoc.xml")
        image = document.find("{*}IMAGE")
        layers = None if image is None else image.find("{*}layers")
        if image is None or layers is None:
            raise InputError(f"{path}: maindoc.xml has no image: save it again from Krita")
        canvas = _whole(path, image, "width", "0"), _whole(path, image, "height", "0")
        budget.canvas(*canvas)
        budget.count(sum(1 for _ in image.iter("{*}layer")))
        notes: list[str] = []
        if "srgb" not in (profile := image.get("profile", "sRGB")).lower():
            notes.append(f"its colour profile, {profile}, is taken for sRGB")
        reader = _Reader(archive, budget, canvas, notes)
        yield Drawing(
            name=path.stem,
            canvas=canvas,
            files=[path],
            layers=flat_layers(reader.children(layers, ()), notes),
            tool="seethrough",
            notes=notes,
            picture=lambda: archive.merged(("mergedimage.png",), canvas),
        )


class _Reader:
    def __init__(
        self, archive: Archive, budget: Budget, canvas: tuple[int, int], notes: list[str]
    ) -> None:
        self._archive = archive
        self._budget = budget
        self._canvas = canvas
        self._notes = notes

    def children(self, layers: Element, around: tuple[str, ...]) -> list[Leaf | Group]:
        """What lies in a group, from back to front; the file has the front first."""
        found = (self._node(element, around) for element in reversed(layers))
        return [node for node in found if node is not None]

    def _node(self, element: Element, around: tuple[str, ...]) -> Leaf | Group | None:
        name = element.get("name") or "layer"
        told = "/".join((*around, name))
        kind = element.get("nodetype", "")
        flags = element.get("channelflags", "")
        if "0" in flags[:-1]:
            self._notes.append(f"{told}: its locked colour channels are drawn")
        shared: dict[str, Any] = {
            "name": name,
            "opacity": _whole(self._archive.path, element, "opacity", "255") / 255,
            "visible": element.get("visible", "1") == "1",
            # The last channel is alpha: to leave it alone is how Krita keeps "inherit alpha".
            "clips": "below" if flags.endswith("0") else "none",
        }
        operator = element.get("compositeop", "normal")
        blend = BLENDS.get(operator)
        if blend is None:
            self._notes.append(f"{told}: blend mode {operator} becomes normal")
            blend = "normal"
        masks = self._masks(element, told)
        if kind == "grouplayer":
            inside = element.find("{*}layers")
            return Group(
                children=[] if inside is None else self.children(inside, (*around, name)),
                blend=None if element.get("passthrough") == "1" else blend,
                mask=_all(masks) if masks else None,
                **shared,
            )
        if kind != "paintlayer" or element.get("colorspacename") not in COLORS:
            what = f"{kind} of {element.get('colorspacename')}" if kind == "paintlayer" else kind
            self._notes.append(
                f"{told}: a {what} is left out: convert it to a paint layer of RGB with 8 bit"
            )
            return None
        space = element.get("colorspacename", "")
        name = self._member(element, told, "")
        offset = _corner(self._archive.path, element)
        box = self._box(name, COLORS[space], offset)

        def rgba() -> Image8:
            pixels = _rgba(self._plane(name, COLORS[space], offset, box, told), space)
            if masks and pixels.size:
                alpha = pixels[..., 3] * _all(masks)(box)
                pixels[..., 3] = np.rint(alpha)
            return pixels

        return Leaf(corner=box[:2], rgba=rgba, blend=blend, **shared)

    def _masks(self, element: Element, told: str) -> list[Mask]:
        masks: list[Mask] = []
        for mask in element.findall("{*}masks/{*}mask"):
            kind = mask.get("nodetype", "")
            if mask.get("visible", "1") != "1" or kind == "selectionmask":
                continue
            if kind != "transparencymask":
                self._notes.append(f"{told}: its {kind} is left out: merge it to keep what it does")
                continue
            masks.append(self._mask(mask, told))
        return masks

    def _mask(self, element: Element, told: str) -> Mask:
        name = self._member(element, told, ".pixelselection")
        offset = _corner(self._archive.path, element)
        outside = self._default(name, 1)[0] / 255
        box = self._box(name, 1, offset)

        def mask(seen: Box) -> np.ndarray:
            plane = self._plane(name, 1, offset, box, f"mask of {told}")[..., 0]
            return paste(plane / np.float32(255), box[:2], seen, outside)

        return mask

    def _member(self, element: Element, told: str, ending: str) -> str:
        """Where a layer's tiles are: the archive's folder has the name that the file once had."""
        wanted = f"/layers/{element.get('filename')}{ending}"
        name = next((name for name in sorted(self._archive.names) if name.endswith(wanted)), None)
        if name is None:
            raise InputError(
                f"{self._archive.path}: {told}: has no file {wanted[1:]}: save it again"
            )
        return name

    def _default(self, name: str, size: int) -> bytes:
        """The pixel of places without a tile; transparent where the file says nothing."""
        stored = f"{name}.defaultpixel"
        default = self._archive.read(stored) if stored in self._archive.names else bytes(size)
        return default if len(default) == size else bytes(size)

    def _box(self, name: str, size: int, offset: tuple[int, int]) -> Box:
        """Where a layer's tiles lie on the canvas, and all of it if something fills the rest."""
        width, height, tiles = self._tiles(name, size)
        boxes = [(x, y, x + width, y + height) for x, y in tiles]
        if any(self._default(name, size)):
            # It has no end; what can be seen of it is the canvas.
            x, y = -offset[0], -offset[1]
            boxes.append((x, y, x + self._canvas[0], y + self._canvas[1]))
        if not boxes:
            return 0, 0, 0, 0
        lows, highs = np.min(boxes, axis=0), np.max(boxes, axis=0)
        x, y = offset
        return int(lows[0]) + x, int(lows[1]) + y, int(highs[2]) + x, int(highs[3]) + y

    def _plane(
        self, name: str, size: int, offset: tuple[int, int], box: Box, told: str
    ) -> np.ndarray:
        """Decode a layer within its box: (h, w, size) uint8 as stored."""
        self._budget.layer(told, box[2] - box[0], box[3] - box[1])
        width, height, tiles = self._tiles(name, size)
        plane = np.empty((box[3] - box[1], box[2] - box[0], size), np.uint8)
        plane[:] = np.frombuffer(self._default(name, size), np.uint8)
        for (x, y), packed in tiles.items():
            raw = _unpack(packed, width * height * size, f"{self._archive.path}: {name}")
            tile = np.frombuffer(raw, np.uint8).reshape(size, height, width)
            left, top = x + offset[0] - box[0], y + offset[1] - box[1]
            plane[top : top + height, left : left + width] = tile.transpose(1, 2, 0)
        return plane

    def _tiles(self, name: str, size: int) -> tuple[int, int, dict[tuple[int, int], bytes]]:
        """The tiles of a layer: their width and height, and what is packed in each by place."""
        where = f"{self._archive.path}: {name}"
        data = self._archive.read(name)
        header = _HEADER.match(data)
        if header is None:
            raise InputError(f"{where}: not the tiles of a layer: save it again from Krita")
        width, height, stored, count = map(int, header.groups())
        if stored != size or not 1 <= width <= 4096 or not 1 <= height <= 4096:
            raise InputError(
                f"{where}: tiles of {width} x {height} px and {stored} bytes, expected {size}"
            )
        tiles: dict[tuple[int, int], bytes] = {}
        at = header.end()
        for _ in range(count):
            head = _TILE.match(data, at)
            if head is None or len(data) < head.end() + int(head[3]):
                raise InputError(f"{where}: ends within its tiles: copy it again")
            x, y = int(head[1]), int(head[2])
            if max(abs(x), abs(y)) > _FAR:
                raise InputError(f"{where}: a tile lies more than {_FAR} px away: save it again")
            at = head.end() + int(head[3])
            tiles[x, y] = data[head.end() : at]
        return width, height, tiles


def _unpack(packed: bytes, size: int, where: str) -> bytes:
    """Unpack a tile: its first byte says whether the rest is packed with LZF."""
    try:
        raw = _unpack_lzf(packed[1:], size) if packed[:1] == b"\1" else packed[1:]
    except IndexError:
        raw = b""
    if len(raw) != size:
        raise InputError(f"{where}: a damaged tile: copy it again")
    return raw


def _unpack_lzf(packed: bytes, size: int) -> bytes:
    """Marc Lehmann's LZF: runs of bytes as they are, and copies of what came before.

    Raises IndexError where a run or copy goes beyond the data or `size`.
    """
    out = bytearray()
    at, end = 0, len(packed)
    while at < end:
        control = packed[at]
        at += 1
        if control < 32:
            out += packed[at : at + control + 1]
            at += control + 1
        else:
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            away = ((control & 31) << 8) + packed[at] + 1
            at += 1
            length += 2
            start = len(out) - away
            if start < 0:
                raise IndexError("a copy of what lies before the data")
            # What is copied may reach into the copy: then it repeats.
            piece = out[start : start + length]
            out += (piece * (length // len(piece) + 1))[:length]
        if len(out) > size:
            raise IndexError("more than the tile has room for")
    return bytes(out)


def _rgba(plane: np.ndarray, space: str) -> Image8:
    """Stored pixels (h, w, bytes), gray or blue, green, red, then alpha, as straight RGBA."""
    if space.endswith("16"):
        levels = np.ascontiguousarray(plane).view("<u2").astype(np.uint32)
        plane = ((levels + 128) // 257).astype(np.uint8)
    order = [2, 1, 0, 3] if space.startswith("RGBA") else [0, 0, 0, 1]
    return plane[..., order]


def _all(masks: list[Mask]) -> Mask:
    """Several masks as one."""

    def mask(box: tuple[int, int, int, int]) -> np.ndarray:
        return np.prod([one(box) for one in masks], axis=0, dtype=np.float32)

    return mask


def _whole(path: Path, element: Element, key: str, default: str) -> int:
    """An attribute that is a whole number."""
    text = element.get(key, default)
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{path}: {key}={text!r} in maindoc.xml is no whole number") from error


def _corner(path: Path, element: Element) -> tuple[int, int]:
    return _whole(path, element, "x", "0"), _whole(path, element, "y", "0")
