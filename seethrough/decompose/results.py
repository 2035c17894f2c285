"""The files of one decomposed image, and the record that says they are whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from seethrough.engine.files import sync_file, write_json
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, Plane, drawing_order
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.page_order import follow_page
from seethrough.inference.parts import Part, cut_parts, fixed_depths, layer_depths, order_parts
from seethrough.inference.picture_size import at_picture_size
from seethrough.inference.psd import MAX_PSD_SIDE, write_layer_pngs, write_parts, write_psd
from seethrough.inference.split import split_depth, split_sides
from seethrough.inference.viewer import write_page

RECORD = "record.json"
LAYERS = "layers"
"""Folder of the PNGs."""

_PARTIAL = ".partial"


def is_done(folder: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether the folder holds all results of these inputs."""
    record = _read_record(folder)
    return (
        record is not None
        and record["inputs"] == inputs
        and all((folder / name).is_file() for name in record["outputs"])
    )


def assemble(result: Decomposition, depths: Mapping[str, Plane] | None, split: bool) -> list[Part]:
    """Parts from back to front: as the page shows it; where it doesn't, by their depth, or without
    depths in the fixed drawing order.

    Raises:
        InputError: when no layer has more than specks.
    """
    layers = {tag: result.layers[tag] for tag in drawing_order(result.layers)}
    page = result.page
    of_layers = fixed_depths(layers) if depths is None else layer_depths(layers, depths)
    parts = cut_parts(layers, of_layers, page)
    if not parts:
        raise InputError("no layer found: the model sees no character in it")
    if split:
        parts = split_depth(split_sides(parts))
    return follow_page(order_parts(parts), page)


def write_results(
    folder: Path,
    name: str,
    result: Decomposition,
    parts: Sequence[Part],
    inputs: Mapping[str, Any],
    *,
    picture: Image8 | None,
    with_depth: bool,
    pngs: bool,
) -> Path:
    """Write all files of an image into its folder; returns the PSD's path.

    PSDs and PNGs are as large as `picture`, (H, W, 4), or without one as the model's canvas; the
    page to look through shows the canvas.

    All are whole before the first takes the place of an earlier one, and the record comes last: a
    process killed at any moment leaves results that count, or none that do.

    Raises:
        InputError: when a file can't be written.
    """
    size = result.page.shape[:2] if picture is None else picture.shape[:2]
    if max(size) > MAX_PSD_SIDE:
        raise InputError(
            f"{folder}: a PSD holds at most {MAX_PSD_SIDE} pixels a side, the picture has"
            f" {size[1]} x {size[0]}: take --size=canvas"
        )
    partial = folder / _PARTIAL
    try:
        outputs = _write_files(partial, name, result, parts, picture, with_depth, pngs)
        _replace(folder, partial, outputs)
        write_json(folder / RECORD, {"inputs": inputs, "outputs": outputs, "note": result.note})
    except OSError as error:
        raise InputError(
            f"{folder}: its files can't be written ({error}): make room, or the folder writable, or"
            " choose another with --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / f"{name}.psd"


def _write_files(
    partial: Path,
    name: str,
    result: Decomposition,
    parts: Sequence[Part],
    picture: Image8 | None,
    with_depth: bool,
    pngs: bool,
) -> list[str]:
    """Write all files into a new folder; returns their names relative to it."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    size = result.page.shape[:2] if picture is None else picture.shape[:2]
    placed = parts if picture is None else at_picture_size(parts, result.canvas, picture)
    psd = partial / f"{name}.psd"
    files = {"PSD": psd.name}
    if with_depth:
        more = write_parts(partial, name, placed, size)
        files |= {"Depth PSD": more.depth_psd.name, "JSON": more.index.name}
    else:
        write_psd(psd, placed, size)
    write_page(partial, name, result.page, parts, files)
    if pngs:
        for tag, layer in result.layers.items():
            shown = layer if picture is None else result.on_page(tag)
            write_layer_pngs(partial / LAYERS, {tag: shown})
    written = sorted(path for path in partial.rglob("*") if path.is_file())
    for path in written:
        sync_file(path)
    return [path.relative_to(partial).as_posix() for path in written]


def _replace(folder: Path, partial: Path, outputs: Sequence[str]) -> None:
    """Let new files take the place of earlier ones, which are gone when no new one does."""
    for output in outputs:
        target = folder / output
        if target.is_dir():
            raise InputError(f"{target}: a folder lies where a file is to be: move it away")
        target.parent.mkdir(exist_ok=True)
    earlier = _read_record(folder)
    # From here on neither the earlier results count, nor yet the new ones.
    (folder / RECORD).unlink(missing_ok=True)
    for output in outputs:
        os.replace(partial / output, folder / output)
    for output in set(earlier["outputs"] if earlier else ()) - set(outputs):
        (folder / output).unlink(missing_ok=True)


def _read_record(folder: Path) -> dict[str, Any] | None:
    """The record of an earlier result; None if there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        names = [PurePosixPath(name) for name in record["outputs"]]
        # They are deleted when they are replaced: none outside of the folder.
        known = not any(name.is_absolute() or ".." in name.parts for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if known and "inputs" in record else None
