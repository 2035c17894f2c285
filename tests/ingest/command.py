"""Runs the command on sources, and says how closely a character agrees with its own picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seethrough.characters.form import (
    Character,
    Image8,
    flatten,
    list_characters,
    read_character,
)
from seethrough.ingest.__main__ import main
from seethrough.ingest.compare import Agreement, agreement

WIDTH, HEIGHT = 40, 30


def ingest(out: Path, *arguments: object) -> int:
    """Run the command; returns its exit code."""
    return main([*map(str, arguments), f"--out={out}"])


def ingested(out: Path, source: Path, *flags: str) -> Character:
    """Ingest a source with one character, and read it."""
    assert ingest(out, source, *flags) == 0
    (folder,) = list_characters(out)
    return read_character(folder)


def own_agreement(character: Character) -> Agreement:
    """How layers over each other agree with the source's own picture."""
    picture = character.picture()
    assert picture is not None
    return agreement(flatten(character), picture)


def ellipse(color: tuple[int, int, int], width: int = 20, height: int = 16) -> Image8:
    """A filled ellipse with a soft edge, and a gradient in its colour."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot((x - (width - 1) / 2) / (width / 2), (y - (height - 1) / 2) / (height / 2))
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., :3] = np.minimum(np.array(color) + 3 * x[..., None], 255)
    rgba[..., 3] = np.rint((4 - 4 * away).clip(0, 1) * 255)
    return rgba


def block(color: tuple[int, ...], width: int = 20, height: int = 16) -> Image8:
    """A rectangle of one colour."""
    rgba = np.full((height, width, 4), 255, np.uint8)
    rgba[..., : len(color)] = color
    return rgba
