"""Where the prediction of a page lies in a folder of predictions, and its layers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from psd_tools import PSDImage

from seethrough.data.layout import KNOWN_TAGS
from seethrough.data.pictures import read_picture
from seethrough.data.tags import HEAD
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, Placed, drawing_order, flatten_placed

_DEPTH = "_depth"


@attrs.frozen(eq=False)
class Layers:
    """The predicted layers of a page, all of one size: the page's, or that of a square canvas in
    whose middle the page lies."""

    by_tag: dict[str, Image8]
    """(h, w, 4) straight RGBA, without `head`; what a split made of a tag is together again."""
    recomposition: Image8
    """All of them over each other, likewise."""


@attrs.frozen
class Prediction:
    """The files that are there of a page's prediction."""

    folder: Path
    """Of all predictions."""
    name: str
    """The page's, without its suffix."""

    @property
    def psd(self) -> Path | None:
        """The layered PSD."""
        return self.first(f"{self.name}.psd")

    @property
    def depth_psd(self) -> Path | None:
        """The one of the layers' depths."""
        return self.first(f"{self.name}{_DEPTH}.psd")

    @property
    def pngs(self) -> Path | None:
        """The folder with a PNG for each tag."""
        return self.folder_with("")

    def folder_with(self, ending: str) -> Path | None:
        """The folder that has PNGs `TAG<ending>.png`."""
        own = self.folder / self.name
        folders = (own / "layers", own / "optimized", own)
        return next((folder for folder in folders if any(_pngs(folder, ending))), None)

    def first(self, *names: str) -> Path | None:
        """The first file of these names, in the page's folder or beside it."""
        places = [
            folder / name for name in names for folder in (self.folder / self.name, self.folder)
        ]
        return next((place for place in places if place.is_file()), None)

    def layer_files(self) -> list[Path]:
        """The files that `layers` reads.

        Raises:
            InputError: when there is none.
        """
        if self.psd is not None:
            return [self.psd]
        if self.pngs is not None:
            return [*_indices(self.pngs), *(path for _, path in _pngs(self.pngs, ""))]
        raise self.absent(f"{self.name}.psd, and no PNG that has a tag for its name")

    def layers(self) -> Layers:
        """The predicted layers.

        Raises:
            InputError: when there is none, one can't be read, or has no tag for its name.
        """
        if self.psd is not None:
            placed, size = read_psd(self.psd)
        else:
            self.layer_files()
            assert self.pngs is not None
            placed, size = _read_pngs(self.pngs)
        by_tag: dict[str, list[Placed]] = {}
        for picture in placed:
            by_tag.setdefault(tag_of(picture.name, self.psd or self.pngs), []).append(picture)
        drawn = [picture for picture in placed if tag_of(picture.name) != HEAD]
        return Layers(
            by_tag={
                tag: flatten_placed(pictures, size).straight()
                for tag, pictures in by_tag.items()
                if tag != HEAD
            },
            recomposition=flatten_placed(drawn, size).straight(),
        )

    def absent(self, what: str) -> InputError:
        """The error that says what was looked for in vain."""
        return InputError(
            f"{self.folder / self.name}: no prediction of this page: there is no {what}, nor in"
            f" {self.folder}"
        )


def tag_of(name: str, source: Path | None = None) -> str:
    """The tag of a part: its name without what splits add, `-l`, `-r`, `-0` and `-1`.

    Raises:
        InputError: when there is no such tag; `source` is where the name was found.
    """
    tag = re.sub(r"(-[lr01])+$", "", name)
    if tag not in KNOWN_TAGS:
        raise InputError(f"{source}: {name!r} is the name of no tag: rename it, or take it out")
    return tag


def read_psd(path: Path) -> tuple[list[Placed], tuple[int, int]]:
    """The pixel layers of a PSD from back to front, cut to the canvas, and its height and width.

    Of a grey one all three channels are the grey.

    Raises:
        InputError: when it can't be read.
    """
    try:
        document = PSDImage.open(path)
        width, height = document.size
        placed: list[Placed] = []
        for layer in document.descendants():
            picture = layer.topil() if layer.kind == "pixel" else None
            if picture is not None:
                rgba = np.asarray(picture.convert("RGBA"))
                placed.extend(_place(layer.name, rgba, (layer.left, layer.top), (height, width)))
    # What a damaged file makes psd-tools raise is of many kinds, assertions among them.
    except Exception as error:
        raise InputError(f"{path}: can't be read as a PSD ({error!r})") from error
    return placed, (height, width)


def read_index(path: Path) -> dict[str, dict[str, Any]]:
    """The parts of a JSON of the published layout, by name.

    Raises:
        InputError: when it has none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error})") from error
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
        raise InputError(f"{path}: has no object 'parts' with an object for each part")
    return parts


def read_placed(
    folder: Path, ending: str
) -> Iterator[tuple[str, np.ndarray, tuple[int, int], tuple[int, int]]]:
    """Every part's PNG in a folder: name, pixels as stored, left and top, and the canvas' size.

    Where info.json says so, a PNG is a cut-out; else all are as large as the canvas.

    Raises:
        InputError: when one can't be read, or sizes don't agree.
    """
    parts = {name: part for path in _indices(folder) for name, part in read_index(path).items()}
    size = _frame_size(folder) if any("xyxy" in part for part in parts.values()) else None
    for name, path in _pngs(folder, ending):
        pixels = read_levels(path) if ending else read_picture(path)
        box = parts.get(name, {}).get("xyxy")
        if size is None or box is None:
            found = (pixels.shape[0], pixels.shape[1])
            size = size or found
            if found != size:
                raise InputError(
                    f"{path}: {found[1]} x {found[0]} px, where others of its folder have"
                    f" {size[1]} x {size[0]}"
                )
            yield name, pixels, (0, 0), size
        else:
            yield name, pixels, (int(box[0]), int(box[1])), size


def _read_pngs(folder: Path) -> tuple[list[Placed], tuple[int, int]]:
    """The layers of a folder from back to front: by depth where info.json has it, else by tag."""
    placed: dict[str, list[Placed]] = {}
    size = (0, 0)
    for name, pixels, corner, size in read_placed(folder, ""):
        placed[name] = _place(name, pixels, corner, size)
    parts = {name: part for path in _indices(folder) for name, part in read_index(path).items()}
    medians = {name: parts.get(name, {}).get("depth_median") for name in placed}
    if all(median is not None for median in medians.values()):
        names = sorted(placed, key=lambda name: -float(medians[name] or 0))
    else:
        tags = {tag_of(name) for name in placed}
        order = [*drawing_order(tags), HEAD]
        names = sorted(placed, key=lambda name: order.index(tag_of(name)))
    return [picture for name in names for picture in placed[name]], size


def _place(name: str, rgba: Image8, corner: tuple[int, int], size: tuple[int, int]) -> list[Placed]:
    """A picture at a place, cut to the canvas; none where it is beside it or has no pixel."""
    left, top = corner
    right, bottom = min(left + rgba.shape[1], size[1]), min(top + rgba.shape[0], size[0])
    x, y = max(left, 0), max(top, 0)
    if x >= right or y >= bottom:
        return []
    part = rgba[y - top : bottom - top, x - left : right - left]
    return [Placed(name=name, box=(x, y, right, bottom), rgba=part)]


def _pngs(folder: Path, ending: str) -> Iterator[tuple[str, Path]]:
    """Names and PNGs of what a folder has of parts, `NAME<ending>.png`."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob(f"*{ending}.png")):
        name = path.stem.removesuffix(ending)
        if re.sub(r"(-[lr01])+$", "", name) in KNOWN_TAGS:
            yield name, path


def _indices(folder: Path) -> list[Path]:
    path = folder / "info.json"
    return [path] if path.is_file() else []


def _frame_size(folder: Path) -> tuple[int, int]:
    (path,) = _indices(folder)
    size = json.loads(path.read_text(encoding="utf-8")).get("frame_size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) for n in size):
        raise InputError(f"{path}: 'frame_size' must be height and width, found {size!r}")
    return size[0], size[1]


def read_levels(path: Path) -> np.ndarray:
    """A grey PNG as depth in [0, 1], (h, w) float32."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "I;16", "I"):
                raise InputError(
                    f"{path}: a depth has one channel of 8 or 16 bit, not {image.mode}"
                )
            levels = np.asarray(image)
            return levels.astype(np.float32) / (255 if image.mode == "L" else 65535)
    except OSError as error:
        raise InputError(f"{path}: can't be read as a picture ({error})") from error
