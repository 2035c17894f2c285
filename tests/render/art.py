"""Characters that the renderer's tests draw."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from seethrough.characters.form import Character, Provenance, read_character
from seethrough.characters.labels import Label, Labels
from seethrough.characters.write import NewLayer, write_character
from seethrough.data.avatars import draw_character
from seethrough.data.layout import Box
from seethrough.recipes.render import PageBackground, PageColour, PageGeometry, RenderOptions
from seethrough.render.pieces import Piece

Rgba = tuple[int, int, int, int]

STACK: Mapping[str, tuple[str, Box, Rgba]] = {
    "PartHair/HairBack1": ("back hair", (40, 20, 160, 120), (120, 60, 0, 255)),
    "PartBody/Body1": ("topwear", (60, 100, 140, 190), (0, 0, 200, 255)),
    "PartBody/Legs-x": ("footwear", (70, 150, 130, 190), (0, 150, 0, 255)),
    "PartFace/Face1": ("face", (70, 40, 130, 110), (250, 220, 200, 255)),
    "PartFace/EyeL": ("face", (80, 60, 90, 70), (0, 0, 0, 255)),
    "PartHair/HairFront1": ("front hair", (60, 30, 140, 55), (180, 90, 0, 128)),
    "PartHair/HairFront2": ("front hair", (60, 30, 140, 40), (180, 90, 0, 255)),
}
"""Seven rectangles on a canvas of 200 x 200, back to front: tag, box, colour."""

EXACT = RenderOptions(geometry=PageGeometry(page_side=(1.0, 1.0)), colour=PageColour(match=0.0))
"""The page is as large as the character's longer side, and colours stay."""


def plain(size: Box, rgba: Rgba) -> np.ndarray:
    x1, y1, x2, y2 = size
    return np.full((y2 - y1, x2 - x1, 4), rgba, np.uint8)


def piece(tag: str, box: Box, rgba: Rgba, blend: str = "normal") -> Piece:
    return Piece(tag, blend, box, plain(box, rgba))


def stack_pieces(crop: Box = (40, 20, 160, 190)) -> list[Piece]:
    """The stack's pieces in a frame around it."""
    left, top = crop[:2]
    return [
        piece(tag, (x1 - left, y1 - top, x2 - left, y2 - top), rgba)
        for tag, (x1, y1, x2, y2), rgba in STACK.values()
    ]


def written(
    root: Path, layers: Mapping[str, NewLayer], canvas: tuple[int, int], name: str = "stack"
) -> Character:
    provenance = Provenance(source=name, sha256="5" * 64, tool="test", version="1", licence="CC0")
    folder = write_character(
        root, name=name, canvas=canvas, layers=layers.values(), provenance=provenance
    )
    return read_character(folder)


def labelled(tags: Mapping[str, str | None]) -> Labels:
    layers = {layer: Label(tag, 1.0, "person") for layer, tag in tags.items()}
    return Labels(tag_set="v3", layers=layers)


def stack_character(root: Path) -> tuple[Character, Labels]:
    layers = {
        path: NewLayer(path=tuple(path.split("/")), corner=box[:2], rgba=plain(box, rgba))
        for path, (_, box, rgba) in STACK.items()
    }
    tags = {path: tag for path, (tag, _, _) in STACK.items()}
    return written(root, layers, (200, 200)), labelled(tags)


def avatar(root: Path, seed: int, size: int = 96) -> tuple[Character, Labels]:
    """One of the embedded characters in the one form of characters."""
    drawn = draw_character(seed, "train", size)
    layers = {
        layer.tag: NewLayer(path=(layer.tag,), corner=(0, 0), rgba=layer.rgba)
        for layer in drawn.layers
    }
    character = written(root, layers, (size, size), f"avatar {seed}")
    return character, labelled({layer.id: layer.path[-1] for layer in character.layers})


def varied() -> RenderOptions:
    """Everything that can be changed is."""
    return RenderOptions(
        geometry=PageGeometry(long_side=(40, 60)),
        background=PageBackground(zoom=(1.0, 2.0), plain=0.2),
        colour=PageColour(match=0.5, quantise=0.5, hsv=1.0, light=1.0),
    )
