"""Pictures of every kind as 8-bit RGBA."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from seethrough.data.pictures import conversion_note, read_picture
from seethrough.errors import InputError

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
RGB, GREY = RGBA[..., :3], RGBA[..., 0]


def saved(folder: Path, image: Image.Image, name: str = "page.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def opaque(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


@pytest.mark.parametrize("pixels", [RGBA, RGB, GREY], ids=["RGBA", "RGB", "grey"])
def test_8_bits_stay_as_they_are(tmp_path: Path, pixels: np.ndarray) -> None:
    expected = {4: RGBA, 3: opaque(RGB)}.get(pixels.shape[-1], opaque(np.dstack([GREY] * 3)))
    assert np.array_equal(read_picture(saved(tmp_path, Image.fromarray(pixels))), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_become_the_nearest_of_8(tmp_path: Path, channels: int) -> None:
    # Both of Pillow's ways: of grey it keeps 16 bits, of colour the upper 8.
    levels = (RGBA[..., :channels].astype(np.uint16) * 257).squeeze()
    cv2.imwrite(str(tmp_path / "page.png"), levels)
    colour = RGBA[..., [2, 1, 0]] if channels > 1 else np.dstack([GREY] * 3)
    expected = np.dstack([colour, RGBA[..., 3]]) if channels == 4 else opaque(colour)
    assert np.array_equal(read_picture(tmp_path / "page.png"), expected)


def test_a_palette_keeps_its_transparency(tmp_path: Path) -> None:
    image = Image.fromarray((GREY > 127).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    pixels = read_picture(saved(tmp_path, image, transparency=0))
    assert np.array_equal(pixels[GREY > 127], [[200, 100, 50, 255]] * int((GREY > 127).sum()))
    assert not pixels[GREY <= 127, 3].any()


@pytest.mark.parametrize(
    ("mode", "name"),
    [("1", "a.png"), ("LA", "a.png"), ("CMYK", "a.jpg"), ("RGB", "a.webp"), ("L", "a.jpg")],
)
def test_every_other_kind_is_converted(tmp_path: Path, mode: str, name: str) -> None:
    path = saved(tmp_path, Image.fromarray(RGBA).convert(mode), name)
    pixels = read_picture(path)
    assert pixels.shape == (5, 7, 4) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(Image.open(path).convert("RGBA")))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_camera_s_orientation_is_applied(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(RGBA), exif=exif)
    assert np.array_equal(read_picture(path), np.rot90(RGBA, turns))


def test_what_can_t_be_read_is_named(tmp_path: Path) -> None:
    whole = saved(tmp_path, Image.fromarray(RGBA)).read_bytes()
    broken, deep = tmp_path / "broken.png", tmp_path / "deep.tif"
    broken.write_bytes(whole[:-20])
    saved(tmp_path, Image.fromarray(GREY.astype(np.int32) - 300), deep.name)
    for path, reason in (
        (tmp_path / "absent.png", "no such picture"),
        (broken, "broken or truncated"),
        (deep, "grey levels from -.*beyond 16 bits"),
    ):
        with pytest.raises(InputError, match=f"{path}: {reason}"):
            read_picture(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds almost nothing, as a decompression bomb does."""
    whole = BytesIO()
    Image.fromarray(RGBA).save(whole, "PNG")
    header = struct.pack(">4sII", b"IHDR", width, height) + whole.getvalue()[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return whole.getvalue()[:12] + header + checksum + whole.getvalue()[33:]


@pytest.mark.parametrize("size", [(9_000, 9_889), (30_000, 30_000)], ids=["large", "bomb"])
@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(InputError, match=rf"{path}: .*pixels.*at most 89 million.*smaller"):
        read_picture(path)


def test_what_is_no_picture_is_named_without_an_object_s_address(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(InputError, match=f"{path}: broken image, or none of a known format") as e:
        read_picture(path)
    assert "0x" not in str(e.value)


def test_what_a_conversion_leaves_out_is_said(tmp_path: Path) -> None:
    still = Image.fromarray(RGBA)
    assert conversion_note(saved(tmp_path, still)) is None
    cmyk = saved(tmp_path, still.convert("CMYK"), "a.jpg")
    assert conversion_note(cmyk) == "CMYK: converted to RGB without its colour profile"
    moving = saved(tmp_path, still, "moving.png", save_all=True, append_images=[still.rotate(180)])
    assert conversion_note(moving) == "it holds 2 pictures: the first is taken"
    assert np.array_equal(read_picture(moving), RGBA)
