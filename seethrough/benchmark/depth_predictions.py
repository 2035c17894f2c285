"""Reads the predicted depth of a page and its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.benchmark.predictions import (
    Prediction,
    read_index,
    read_levels,
    read_placed,
    read_psd,
    tag_of,
)
from seethrough.data.tags import HEAD
from seethrough.errors import InputError
from seethrough.inference.parts import ALPHA_THRESHOLD

Plane = npt.NDArray[np.float32]
"""(h, w), NaN where there is no depth."""


@attrs.frozen
class DepthPrediction:
    """The files of depth that are there of a page's prediction."""

    folder: Path
    """Of all predictions."""
    name: str
    """The page's, without its suffix."""
    nearest: Literal["dark", "bright"]
    """What is near in PNGs; in PSDs it is dark."""

    def files(self) -> list[Path]:
        """The files that are read.

        Raises:
            InputError: when there is none.
        """
        files = [self._layered.depth_psd or self._folder, self._page, self._index]
        found = [file for file in files if file is not None]
        if not found:
            raise self._layered.absent(f"{self.name}_depth.psd and no TAG_depth.png or page depth")
        return [
            file
            for place in found
            for file in (sorted(place.glob("*")) if place.is_dir() else [place])
            if file.is_file()
        ]

    def layers(self) -> dict[str, Plane]:
        """Depth in [0, 1], near 0, by tag, without `head`; all of one size, none if there is none.

        Where parts that a split made of a tag overlap it is the nearest.

        Raises:
            InputError: when a file can't be read, or has no tag for its name.
        """
        planes: dict[str, Plane] = {}

        def add(name: str, depth: np.ndarray, known: np.ndarray, corner: tuple[int, int],
                size: tuple[int, int], source: Path) -> None:  # fmt: skip
            if (tag := tag_of(name, source)) == HEAD:
                return
            plane = planes.setdefault(tag, np.full(size, np.nan, np.float32))
            left, top = corner
            here = plane[top : top + depth.shape[0], left : left + depth.shape[1]]
            shown = np.where(known, depth, np.nan)[: here.shape[0], : here.shape[1]]
            here[...] = np.fmin(here, shown)

        if (psd := self._layered.depth_psd) is not None:
            placed, size = read_psd(psd)
            for part in placed:
                depth = part.rgba[..., 0] / np.float32(255)
                known = part.rgba[..., 3] > ALPHA_THRESHOLD
                add(part.name, depth, known, part.box[:2], size, psd)
        elif (folder := self._folder) is not None:
            for name, levels, corner, size in read_placed(folder, "_depth"):
                depth = levels if self.nearest == "dark" else 1 - levels
                # A layer has the farthest depth where it is not.
                add(name, depth, depth < 1, corner, size, folder)
        return planes

    def page(self) -> Plane | None:
        """The page's depth in [0, 1], near 0; None without its file."""
        if self._page is None:
            return None
        levels = read_levels(self._page)
        return levels if self.nearest == "dark" else 1 - levels

    def places(self) -> dict[str, float] | None:
        """Each layer's median depth by tag, of a split one the mean of its parts'.

        None without their file.

        Raises:
            InputError: when a part of it has no such number.
        """
        if self._index is None:
            return None
        found: dict[str, list[float]] = {}
        for name, part in read_index(self._index).items():
            median = part.get("depth_median")
            if not isinstance(median, int | float):
                raise InputError(f"{self._index}: 'depth_median' of {name!r} is {median!r}")
            found.setdefault(tag_of(name, self._index), []).append(float(median))
        return {tag: sum(values) / len(values) for tag, values in found.items()}

    @property
    def _layered(self) -> Prediction:
        return Prediction(self.folder, self.name)

    @property
    def _folder(self) -> Path | None:
        return self._layered.folder_with("_depth")

    @property
    def _page(self) -> Path | None:
        return self._layered.first(f"{self.name}_depth.png")

    @property
    def _index(self) -> Path | None:
        index = self._layered.first(f"{self.name}.psd.json")
        beside = None if self._folder is None else self._folder / "info.json"
        return index or (beside if beside is not None and beside.is_file() else None)
