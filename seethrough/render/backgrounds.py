"""What is behind a character: part of a picture, or a drawn field of colours."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from seethrough.data.pictures import MAX_PIXELS, read_picture
from seethrough.errors import InputError
from seethrough.recipes.render import PageBackground
from seethrough.render.geometry import Image8

_REDUCED = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
)
"""By what a JPEG's sides can be divided while it is decoded, which is faster."""


def read_background(
    random: np.random.Generator,
    path: Path,
    size: tuple[int, int],
    options: PageBackground,
    compat: bool = False,
) -> Image8:
    """Cut a page's background of (height, width) out of a picture: (height, width, 3) RGB.

    The picture is scaled to cover the page and by a random zoom, and cut anywhere. With `compat`
    it is scaled only where it is too small. Raises InputError for a picture that can't be read.
    """
    factor = 1.0 if compat else random.uniform(*options.zoom)
    right, down = random.random(2)
    picture = _decode(path, 0 if compat else max(size) * factor)
    height, width = picture.shape[:2]
    cover = max(size[0] / height, size[1] / width)
    if compat:
        if cover > 1:
            whole = int(np.ceil(width * cover)), int(np.ceil(height * cover))
            picture = cv2.resize(picture, whole, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(_cut(picture, size, right, down))
    scale = cover * factor
    part = min(max(round(size[0] / scale), 1), height), min(max(round(size[1] / scale), 1), width)
    picture = np.ascontiguousarray(_cut(picture, part, right, down))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size[::-1], interpolation=how)


def draw_background(
    random: np.random.Generator, size: tuple[int, int], options: PageBackground
) -> Image8:
    """Draw a page's background of (height, width): (height, width, 3) RGB."""
    least, most = options.colour_patches
    count = int(random.integers(least, most + 1))
    if random.random() < options.plain:
        count = 1
    colours = random.integers(0, 256, (count, count, 3), np.uint8)
    return cv2.resize(colours, size[::-1], interpolation=cv2.INTER_CUBIC)


def _cut(picture: Image8, size: tuple[int, int], right: float, down: float) -> Image8:
    """A window of (height, width), at shares from 0 to below 1 of the places where it fits."""
    spare_y, spare_x = picture.shape[0] - size[0], picture.shape[1] - size[1]
    y, x = int(down * (spare_y + 1)), int(right * (spare_x + 1))
    return picture[y : y + size[0], x : x + size[1]]


def _decode(path: Path, needed: float) -> Image8:
    """Decode a picture: (H, W, 3) RGB; smaller than it is, if its sides stay above `needed` px."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the background can't be read: {error.strerror}") from error
    flag = cv2.IMREAD_COLOR
    try:
        with Image.open(BytesIO(content)) as image:
            sides, is_jpeg = image.size, image.format == "JPEG"
    except (OSError, ValueError, Image.DecompressionBombError):
        return read_picture(path)[..., :3]  # It says what is wrong.
    if is_jpeg and needed:
        for divisor, reduced in reversed(_REDUCED):
            if min(sides) // divisor >= needed:
                flag = reduced
    if sides[0] * sides[1] <= MAX_PIXELS:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
        if picture is not None:
            return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return read_picture(path)[..., :3]
