"""Pictures from anywhere as 8-bit RGBA, whatever their file keeps."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seethrough.data.shards import read_bytes
from seethrough.errors import InputError

MAX_PIXELS = 89_000_000
"""A picture with more pixels is refused: each takes tens of bytes on its way. Pillow warns of a
decompression bomb from about there too."""


def read_picture(path: str | Path) -> np.ndarray:
    """Decode a picture of any kind that Pillow reads: (H, W, 4) uint8 straight RGBA.

    Grey, palette, CMYK and 16-bit pictures are converted, one without alpha is opaque, and a
    camera's orientation (EXIF) is applied. Of an animation the first frame counts.

    Raises InputError if the file is absent, broken, has more than `MAX_PIXELS`, or holds no pixels
    that have an 8-bit form.
    """
    path = Path(path)
    try:
        content = read_bytes(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such picture") from error
    except OSError as error:
        raise broken(path, error) from error
    return as_rgba(ImageOps.exif_transpose(decode(path, content)), path)


def decode(path: Path, content: bytes) -> Image.Image:
    """Decode the bytes of a picture whole.

    Raises InputError, naming `path`, if they are broken or have more than `MAX_PIXELS`.
    """
    try:
        # Decoding alone checks no checksums: a PNG with a few wrong bytes would pass.
        image = _open(content, path)
        image.verify()
        image = _open(content, path)
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: broken image, or none of a known format: write it again, as PNG"
        ) from error
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise broken(path, error) from error


def broken(path: Path, error: Exception) -> InputError:
    """What to say of a picture that can't be read."""
    return InputError(f"{path}: broken or truncated image: {error}; write or copy it again")


def as_rgba(image: Image.Image, path: Path) -> np.ndarray:
    """Convert a picture of any kind: (H, W, 4) uint8 straight RGBA.

    Raises InputError, naming `path`, if its pixels have no 8-bit form.
    """
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image), path)
    try:
        return np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
    except ValueError as error:
        raise InputError(
            f"{path}: pixels of kind {image.mode} have no 8-bit colour: save it as RGB or RGBA"
        ) from error


def conversion_note(path: str | Path) -> str | None:
    """What `read_picture` leaves out of a picture that it can read; None if nothing."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            return f"it holds {frames} pictures: the first is taken"
        if image.mode == "CMYK":
            return "CMYK: converted to RGB without its colour profile"
    return None


def _open(content: bytes, path: Path) -> Image.Image:
    """Open a picture, not decoded yet, unless it is too large."""
    too_large = f"{path}: {{}}, at most {MAX_PIXELS // 1_000_000} million are read: make it smaller"
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            image = Image.open(BytesIO(content))
    except Image.DecompressionBombError as error:
        raise InputError(too_large.format(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(too_large.format(f"{image.width} x {image.height} pixels"))
    return image


def _from_16_bit(levels: np.ndarray, path: Path) -> np.ndarray:
    """Grey of 16 bits as RGBA of 8: Pillow's own conversion would clip it at 255."""
    if levels.min() < 0 or levels.max() > 65535:
        raise InputError(
            f"{path}: grey levels from {levels.min()} to {levels.max()}, beyond 16 bits: save it "
            "with 8 or 16 bits"
        )
    grey = ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
