"""The files of one photo, and the record that says they are whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seethrough.engine.files import write_json
from seethrough.errors import InputError
from seethrough.inference.files import replacing

PREDICTION, QUANTISED, OVERLAY = "_pred.png", "_maskq.png", "_overlay.jpg"
PHOTO, TRUTH = "_img.png", "_maskgt.png"
"""What follows a photo's name in those of its files; all but the overlay as published.

The name is that of the photo's file without its extension. The published program ends it at the
first dot: of `cup.1.jpg` and `cup.2.jpg` one would overwrite the other. Those of Trans10K have no
further dot."""


def read_done(folder: Path, name: str, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a photo if it was made from these inputs and its files are there."""
    try:
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        agrees = record["inputs"] == inputs
        return record if agrees and _all_there(folder, record["outputs"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _all_there(folder: Path, names: list[str]) -> bool:
    return all((folder / name).is_file() for name in names)


def write_results(
    folder: Path,
    name: str,
    inputs: Mapping[str, Any],
    pictures: Mapping[str, np.ndarray | bytes],
    values: Mapping[str, Any],
    attributes: Mapping[str, float] | None = None,
) -> None:
    """Write a photo's pictures, each whole or not at all, and last the record.

    An earlier record goes first: a process killed at any moment leaves files that count together,
    or no record.

    Args:
        folder: where; it is made.
        name: what the names of the files begin with; it may name a subfolder.
        inputs: what the results depend on.
        pictures: by the end of their name, (H, W) grey or (H, W, 3) RGB, uint8; or the bytes of
            any file.
        values: what else the record says.
        attributes: numbers by name that `PREDICTION` has as extended attributes, as published:
            `user.<name>`, as text.

    Raises:
        InputError: when a file can't be written.
    """
    record = folder / f"{name}.json"
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        for ending, picture in pictures.items():
            with replacing(folder / f"{name}{ending}") as file:
                file.write(_encoded(picture, Path(ending).suffix))
        for attribute, value in (attributes or {}).items():
            set_attribute(folder / f"{name}{PREDICTION}", attribute, value)
        outputs = [f"{name}{ending}" for ending in pictures]
        write_json(record, {"inputs": inputs, "outputs": outputs, **values})
    except OSError as error:
        raise InputError(f"{record}: can't be written ({error.strerror or error})") from error


def set_attribute(path: Path, name: str, value: float) -> None:
    """Set an extended attribute of a file: `user.<name>`, as text.

    Raises:
        InputError: when the file system keeps none.
    """
    if not hasattr(os, "setxattr"):
        raise InputError(f"{path}: only Linux keeps extended attributes: leave out --xattr")
    try:
        os.setxattr(path, f"user.{name}", str(value).encode())
    except OSError as error:
        raise InputError(
            f"{path}: its file system keeps no extended attributes ({error.strerror}): leave out"
            " --xattr, or put the results on another"
        ) from error


def _encoded(picture: np.ndarray | bytes, suffix: str) -> bytes:
    if isinstance(picture, bytes):
        return picture
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    _, content = cv2.imencode(suffix, bgr)
    return content.tobytes()
