"""Writing parts: a layered PSD that every viewer shows, one of their depths, and an index."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from PIL import Image
from psd_tools.constants import ChannelID, ColorMode, Compression, Tag
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.layer_and_mask import (
    ChannelData,
    ChannelDataList,
    ChannelInfo,
    LayerInfo,
    LayerRecord,
)

from seethrough.errors import InputError
from seethrough.inference.composite import Flat, Image8, Placed, flatten_placed
from seethrough.inference.files import replacing
from seethrough.inference.parts import Part

MAX_PSD_SIDE = 30_000
"""Largest width or height of the format's version 1, in pixels."""

Plane8 = npt.NDArray[np.uint8]
"""One channel, (h, w)."""


@attrs.frozen(kw_only=True)
class PartFiles:
    """What `write_parts` writes."""

    psd: Path
    """`<name>.psd`: a pixel layer a part, the farthest at the bottom."""
    depth_psd: Path
    """`<name>_depth.psd`: the same layers in gray, the depth from 0, near, to 255, far.

    They have the parts' alpha, where the published ones are opaque boxes: so they can be seen
    over each other. On both, a layer's first channel is its depth.
    """
    index: Path
    """`<name>.psd.json`: box, median depth and tag of each layer, and the canvas' size."""


def write_parts(folder: Path, name: str, parts: Sequence[Part], size: tuple[int, int]) -> PartFiles:
    """Write parts, back to front, of a canvas of `size` (height, width) in the published layout.

    Makes the folder. The same parts give the same bytes.

    Raises:
        InputError: when a file can't be written, or the canvas is beyond the format.
    """
    files = PartFiles(
        psd=folder / f"{name}.psd",
        depth_psd=folder / f"{name}_depth.psd",
        index=folder / f"{name}.psd.json",
    )
    index = {
        "parts": {
            part.name: {"xyxy": part.box, "depth_median": part.depth_median, "tag": part.name}
            for part in parts
        },
        "frame_size": size,
    }
    documents = (
        _document(files.psd, parts, size),
        _depth_document(files.depth_psd, parts, size),
    )
    # All three are whole before the first takes its target's place.
    with (
        replacing(files.index) as index_file,
        replacing(files.depth_psd) as depth_file,
        replacing(files.psd) as psd_file,
    ):
        for document, file in zip(documents, (psd_file, depth_file), strict=True):
            document.write(file)
        index_file.write(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        for file in (psd_file, depth_file, index_file):
            file.flush()
    return files


def write_psd(path: Path, pictures: Sequence[Placed], size: tuple[int, int]) -> None:
    """Write pictures from back to front as a PSD of `size` (height, width), as `<name>.psd`.

    Raises:
        InputError: when the file can't be written, or the canvas is beyond the format.
    """
    document = _document(path, pictures, size)
    with replacing(path) as file:
        document.write(file)


def _document(path: Path, pictures: Sequence[Placed], size: tuple[int, int]) -> PSD:
    """Pixel layers; the flat picture, for viewers without layers, is the layers' composite."""
    layers = [
        _Layer(picture, picture.rgba[..., 3], tuple(np.moveaxis(picture.rgba[..., :3], -1, 0)))
        for picture in pictures
    ]
    flat = _flat_planes(flatten_placed(pictures, size))
    return _assemble(path, ColorMode.RGB, layers, flat, alpha=True)


def _depth_document(path: Path, parts: Sequence[Part], size: tuple[int, int]) -> PSD:
    """Gray layers with their parts' alpha; the flat picture is their composite on white, far."""
    flat = np.full(size, 255, np.float32)
    layers: list[_Layer] = []
    for part in parts:
        gray = np.rint(part.depth * 255).astype(np.uint8)
        alpha = part.rgba[..., 3]
        layers.append(_Layer(part, alpha, (gray,)))
        behind = flat[part.window]
        flat[part.window] = behind + (gray - behind) * (alpha / np.float32(255))
    plane = np.rint(flat).astype(np.uint8)
    return _assemble(path, ColorMode.GRAYSCALE, layers, [plane], alpha=False)


@attrs.frozen
class _Layer:
    picture: Placed
    alpha: Plane8
    colors: tuple[Plane8, ...]


def _assemble(
    path: Path, mode: ColorMode, layers: Sequence[_Layer], flat: Sequence[Plane8], *, alpha: bool
) -> PSD:
    """A document; `alpha` says that the last plane of the flat picture is its alpha."""
    height, width = flat[0].shape
    if max(height, width) > MAX_PSD_SIDE:
        raise InputError(
            f"{path}: a PSD holds at most {MAX_PSD_SIDE} pixels a side, this page has"
            f" {width} x {height}: decompose it at a lower resolution"
        )
    header = FileHeader(
        version=1, channels=len(flat), height=height, width=width, depth=8, color_mode=mode
    )
    # psd-tools' records, not its PSDImage: that one would render the flat picture from the layers
    # on saving, which takes several times as long as all the rest. A negative count says that the
    # fourth channel of the flat picture is its alpha.
    info = LayerInfo(layer_count=-len(layers) if alpha else len(layers))
    for layer in layers:
        record, channels = _layer_record(layer)
        info.layer_records.append(record)
        info.channel_image_data.append(channels)
    document = PSD(header=header, image_data=ImageData(compression=Compression.RLE))
    document.layer_and_mask_information.layer_info = info
    document.image_data.set_data([plane.tobytes() for plane in flat], header)
    return document


def _layer_record(layer: _Layer) -> tuple[LayerRecord, ChannelDataList]:
    left, top, right, bottom = layer.picture.box
    record = LayerRecord(top=top, left=left, bottom=bottom, right=right)
    # The old name holds MacRoman; readers prefer the Unicode one beside it.
    old_name = layer.picture.name.encode("macroman", errors="replace")[:255]
    record.name = old_name.decode("macroman")
    record.tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, layer.picture.name)
    channels = ChannelDataList()
    planes = [(ChannelID.TRANSPARENCY_MASK, layer.alpha)]
    planes += [(ChannelID(index), plane) for index, plane in enumerate(layer.colors)]
    for channel, plane in planes:
        data = ChannelData(compression=Compression.RLE)
        data.set_data(plane.tobytes(), right - left, bottom - top, 8)
        record.channel_info.append(ChannelInfo(id=channel))
        channels.append(data)
    return record, channels


def _flat_planes(flat: Flat) -> list[Plane8]:
    """Encode a picture as the format keeps it: colour laid on white, and the alpha beside.

    Readers that divide colour by alpha truncate, which takes up to `alpha` levels; half of it
    added beforehand keeps what they show, and the stored colour, within a level of the picture.
    """
    alpha = np.rint(np.clip(flat.alpha, 0, 1) * 255)
    planes = [
        255 - alpha + np.clip(np.rint(flat.color[..., channel] * 255 + flat.alpha / 2), 0, alpha)
        for channel in range(3)
    ]
    return [plane.astype(np.uint8) for plane in (*planes, alpha)]


def write_layer_pngs(directory: Path, layers: Mapping[str, Image8]) -> dict[str, Path]:
    """Write each layer as `<tag>.png`, straight RGBA and as large as the page.

    Makes the folder. Returns the paths by tag.
    """
    for tag in layers:
        if tag in ("", ".", "..") or os.path.basename(tag) != tag:
            raise InputError(f"{directory}: a layer can't be a file named {tag!r}: rename its tag")
    directory.mkdir(parents=True, exist_ok=True)
    paths = {tag: directory / f"{tag}.png" for tag in layers}
    for tag, layer in layers.items():
        Image.fromarray(layer).save(paths[tag])
    return paths
