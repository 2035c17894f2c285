"""Characters of plain boxes, for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from seethrough.characters.form import Box, Character, Provenance, read_character
from seethrough.characters.write import NewLayer, write_character


@attrs.frozen
class Plain:
    """A layer of one colour."""

    path: str
    """Groups and name, joined by "/"."""
    box: Box
    color: tuple[int, int, int] = (128, 128, 128)
    alpha: int = 255
    more: dict[str, Any] = attrs.field(factory=dict)
    """Other arguments of `NewLayer`."""

    def layer(self) -> NewLayer:
        x1, y1, x2, y2 = self.box
        rgba = np.empty((y2 - y1, x2 - x1, 4), np.uint8)
        rgba[...] = (*self.color, self.alpha)
        return NewLayer(path=tuple(self.path.split("/")), corner=(x1, y1), rgba=rgba, **self.more)


STACK = (
    Plain("PartHair/HairBack1", (40, 20, 160, 120), (120, 60, 0)),
    Plain("PartBody/Body1", (60, 100, 140, 190), (0, 0, 200)),
    Plain("PartBody/Legs-x", (70, 150, 130, 190), (0, 150, 0)),
    Plain("PartFace/Face1", (70, 40, 130, 110), (250, 220, 200)),
    Plain("PartFace/EyeL", (80, 60, 90, 70), (0, 0, 0)),
    Plain("PartHair/HairFront1", (60, 30, 140, 55), (180, 90, 0), 128),
    Plain("PartHair/HairFront2", (60, 30, 140, 40), (180, 90, 0)),
)
"""A character on a canvas of 200 x 200."""


def draw(
    root: Path, layers: Sequence[Plain] = STACK, name: str = "M", side: int = 200
) -> Character:
    """Write a character and read it back."""
    digest = name.encode().hex().ljust(64, "0")[:64]
    folder = write_character(
        root,
        name=name,
        canvas=(side, side),
        layers=[plain.layer() for plain in layers],
        provenance=Provenance(source=name, sha256=digest, tool="test", version="1"),
    )
    return read_character(folder)
