"""What the page of labels reads and writes: the characters of one folder and nothing beside it."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np

from seethrough.characters.form import (
    Character,
    CharacterLayer,
    clip_alpha,
    list_characters,
    read_character,
)
from seethrough.characters.labels import (
    FILE_NAME,
    Labels,
    labels_text,
    parse_labels,
    read_labels,
    write_labels,
)
from seethrough.data.tag_sets import TAG_SETS
from seethrough.errors import InputError
from seethrough.label.characters import UNSURE

NEWEST = "v3"
"""The tag set of labels that are begun on the page."""


class ChangedError(InputError):
    """The labels on the disk are others than the page has read."""


@attrs.define(eq=False)
class Store:
    """The characters of a folder."""

    root: Path
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def characters(self) -> list[dict[str, Any]]:
        """What the list shows of each: those to look at first come first, broken ones last."""
        found = [self._summary(folder) for folder in list_characters(self.root)]
        return sorted(found, key=lambda one: (one["checked"], -one["unsure"], one["id"]))

    def character(self, name: str) -> dict[str, Any]:
        """A character with its labels; raises InputError when it can't be read."""
        character = self._read(name)
        labels, revision = self._labels(character)
        return {
            "id": character.id,
            "name": character.name,
            "canvas": character.canvas,
            "layers": [
                {
                    "id": layer.id,
                    "path": layer.path,
                    "box": layer.box,
                    "blend": layer.blend,
                    "opacity": layer.opacity,
                    "visible": layer.visible,
                }
                for layer in character.layers
            ],
            "labels": json.loads(labels_text(labels)),
            "tags": TAG_SETS[labels.tag_set],
            "revision": revision,
        }

    def picture(self, name: str, index: int) -> bytes:
        """A layer as PNG, clipped by those it belongs to; raises InputError as `character`."""
        character = self._read(name)
        if not 0 <= index < len(character.layers):
            raise InputError(f"{name}: has {len(character.layers)} layers, none of number {index}")
        layer = character.layers[index]
        if layer.clip:
            return _clipped(character, layer)
        return self._inside(layer.file).read_bytes()

    def save(self, name: str, content: object, revision: str) -> str:
        """Write a character's labels; returns their new revision.

        Args:
            name: the character's.
            content: what `labels.json` shall say.
            revision: that of the labels which the page changed.

        Raises:
            ChangedError: when the file has been changed by others since.
            InputError: when it can't be written, or is no such content; the old file stays.
        """
        character = self._read(name)
        path = self._inside(character.folder / FILE_NAME)
        labels = parse_labels(json.dumps(content), path)
        labels.check_layers([layer.id for layer in character.layers], path)
        with self._lock:
            if _revision(path) != revision:
                raise ChangedError(f"{path}: has been changed by another program meanwhile")
            try:
                write_labels(character.folder, labels)
            except OSError as error:
                raise InputError(f"{path}: can't be written: {error.strerror}") from error
            return _revision(path)

    def _summary(self, folder: Path) -> dict[str, Any]:
        told = {"id": folder.name, "name": folder.name, "unsure": 0, "checked": False}
        try:
            character = self._read(folder.name)
            labels, _ = self._labels(character)
        except InputError as problem:
            return {**told, "checked": True, "problem": str(problem)}
        sure = sum(label.confidence >= UNSURE for label in labels.layers.values())
        unsure = len(character.layers) - sure
        return {**told, "name": character.name, "unsure": unsure, "checked": labels.checked}

    def _read(self, name: str) -> Character:
        """A character by the name of its folder, which must be one of the list."""
        folders = {folder.name: folder for folder in list_characters(self.root)}
        if name not in folders:
            raise InputError(f"{self.root}: no character {name!r} is in it")
        return read_character(self._inside(folders[name]))

    def _inside(self, path: Path) -> Path:
        """The path, unless a link leads it out of the folder."""
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise InputError(f"{path}: leads out of {self.root}")
        return path

    def _labels(self, character: Character) -> tuple[Labels, str]:
        path = character.folder / FILE_NAME
        # The revision first: a change between the two is then found when the page saves.
        revision = _revision(path)
        labels = read_labels(character.folder)
        if labels is None:
            return Labels(tag_set=NEWEST, layers={}), revision
        labels.check_layers([layer.id for layer in character.layers], path)
        return labels, revision


def _revision(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _clipped(character: Character, layer: CharacterLayer) -> bytes:
    rgba = layer.rgba()
    alpha = np.rint(rgba[..., 3] * clip_alpha(character, layer)).astype(np.uint8)
    bgra = cv2.cvtColor(np.dstack([rgba[..., :3], alpha]), cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(".png", bgra)[1].tobytes()
