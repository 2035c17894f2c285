"""The page to look through a decomposed character: one HTML file that loads nothing.

Pictures are embedded once each, without loss; style and script are inline. What it shows and
which keys it knows stands in its own help (?).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import attrs
import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.parts import Part

FILE_NAME = "index.html"
_TEMPLATE = "viewer.html.j2"
_STYLE = "viewer.css"
_SCRIPT = "viewer.js"
_COLOR_STOPS = 17
"""Points at which the page's colour map of depth is sampled; between them it is linear."""


@attrs.frozen(kw_only=True)
class _Layer:
    """A part as the template draws it. Pictures are data URIs, places pixels of the page."""

    name: str
    left: int
    top: int
    width: int
    height: int
    picture: str
    depth: str
    """Grey, 255 far; empty when the page shows no depth."""
    depth_median: float


def write_page(
    folder: Path,
    name: str,
    page_rgba: Image8,
    parts: Sequence[Part],
    beside: Mapping[str, str] | None = None,
) -> Path:
    """Write `index.html` into the folder, over one that is there; returns its path.

    `page_rgba` is what was decomposed, (H, W, 4) uint8 straight alpha; the parts lie on it, back
    to front. Parts drawn over each other are the recomposition that the page shows. Depth is
    shown when any part has a depth below 1. `beside` are files of the folder that the page links,
    their names by what they are called. The same arguments give the same bytes.

    Raises:
        InputError: when the page is no such array, or a part does not fit it or its own box.
    """
    _check(page_rgba, parts)
    height, width = page_rgba.shape[:2]
    with_depth = any((part.depth < 1).any() for part in parts)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.from_string(_source(_TEMPLATE)).render(
        name=name,
        width=width,
        height=height,
        page=_data_uri(page_rgba),
        layers=[_layer(part, with_depth) for part in parts],
        with_depth=with_depth,
        # A name may hold a colon, which would make a scheme of what precedes it.
        beside={label: "./" + quote(file) for label, file in (beside or {}).items()},
        colors=_depth_colors(),
        style=_source(_STYLE),
        script=_source(_SCRIPT),
    )
    path = folder / FILE_NAME
    path.write_text(html, encoding="utf-8")
    return path


def _check(page: Image8, parts: Sequence[Part]) -> None:
    if page.ndim != 3 or page.shape[2] != 4 or page.dtype != np.uint8 or not page.size:
        raise InputError(
            f"page_rgba: found {page.shape} of {page.dtype}: give (H, W, 4) RGBA of 8 bits"
        )
    height, width = page.shape[:2]
    for part in parts:
        left, top, right, bottom = part.box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InputError(
                f"parts: the box {tuple(part.box)} of {part.name!r} is empty or leaves the page of"
                f" {width} x {height} pixels: cut the part to the page"
            )
        size = (bottom - top, right - left)
        if part.rgba.shape != (*size, 4) or part.depth.shape != size:
            raise InputError(
                f"parts: {part.name!r} has pictures of {part.rgba.shape} and {part.depth.shape}"
                f" in a box of height and width {size}: give both the size of the box"
            )


def _layer(part: Part, with_depth: bool) -> _Layer:
    left, top, right, bottom = part.box
    return _Layer(
        name=part.name,
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
        picture=_data_uri(part.rgba),
        depth=_data_uri(np.rint(part.depth * 255).astype(np.uint8)) if with_depth else "",
        depth_median=part.depth_median,
    )


def _depth_colors() -> list[tuple[int, int, int]]:
    """RGB from near to far, light to dark: a perceptual map read from its light end."""
    ramp = np.rint(np.linspace(255, 0, _COLOR_STOPS)).astype(np.uint8)
    bgr = cv2.applyColorMap(ramp[:, None], cv2.COLORMAP_INFERNO)[:, 0]
    return [(int(red), int(green), int(blue)) for blue, green, red in bgr]


def _data_uri(picture: Image8) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _source(name: str) -> str:
    return files("seethrough.inference").joinpath(name).read_text(encoding="utf-8")
