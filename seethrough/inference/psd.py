"""Writing layers: a layered PSD that every viewer shows, and a folder of PNGs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import ColorMode, Compression
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData

from seethrough.errors import InputError
from seethrough.inference.composite import Flat, Image8, content_box, flatten

MAX_PSD_SIDE = 30_000
"""Largest width or height of the format's version 1, in pixels."""


def write_psd(path: Path, layers: Mapping[str, Image8], size: tuple[int, int]) -> None:
    """Write layers from back to front as a PSD of `size` (height, width).

    Each layer is a pixel layer named by its key and cut to where its alpha is above 0; a layer
    with no such pixel is left out. The flat picture that viewers without layers show is the
    layers over each other. The same layers give the same bytes: the file holds no time.
    """
    height, width = size
    if max(size) > MAX_PSD_SIDE:
        raise InputError(
            f"{path}: a PSD holds at most {MAX_PSD_SIDE} pixels a side, this page has"
            f" {width} x {height}: decompose it at a lower resolution"
        )
    header = FileHeader(
        version=1, channels=4, height=height, width=width, depth=8, color_mode=ColorMode.RGB
    )
    record = PSD(header=header, image_data=ImageData(compression=Compression.RLE))
    document = PSDImage(record)
    for name, layer in layers.items():
        if (box := content_box(layer)) is None:
            continue
        left, top, right, bottom = box
        part = Image.fromarray(layer[top:bottom, left:right])
        # The constructor encodes the name as MacRoman and fails on others; the setter also
        # writes the Unicode name that readers prefer.
        document.create_pixel_layer(part, top=top, left=left).name = name
    if (layer_info := record.layer_and_mask_information.layer_info) is not None:
        # A negative count says that the fourth channel of the flat picture is its alpha.
        layer_info.layer_count = -len(document)

    # The flat picture goes straight into the record: saving through the document would render
    # it again from the layers, which takes several times as long as all the rest.
    record.image_data.set_data(_flat_planes(flatten(layers.values(), size)), header)
    with path.open("wb") as file:
        record.write(file)


def _flat_planes(flat: Flat) -> list[bytes]:
    """Encode a picture as the format keeps it: colour laid on white, and the alpha beside.

    Readers that divide colour by alpha truncate, which takes up to `alpha` levels; half of it
    added beforehand keeps what they show, and the stored colour, within a level of the picture.
    """
    alpha = np.rint(np.clip(flat.alpha, 0, 1) * 255)
    planes = [
        255 - alpha + np.clip(np.rint(flat.color[..., channel] * 255 + flat.alpha / 2), 0, alpha)
        for channel in range(3)
    ]
    return [plane.astype(np.uint8).tobytes() for plane in (*planes, alpha)]


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
