"""Backgrounds: pictures of any size, or drawn ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seethrough.errors import InputError
from seethrough.recipes.render import PageBackground
from seethrough.render.backgrounds import draw_background, read_background


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(path: Path, width: int, height: int) -> Path:
    """Red is a pixel's place from left to right, green from top to bottom, of 255."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    cv2.imwrite(str(path), np.dstack([np.zeros_like(x), y, x]).astype(np.uint8))
    return path


@pytest.mark.parametrize("size", [(3000, 2000), (100, 80), (400, 500)])
@pytest.mark.parametrize("name", ["wide.png", "wide.jpg"])
@pytest.mark.parametrize("compat", [False, True])
def test_any_picture_covers_the_page(tmp_path: Path, size, name: str, compat: bool) -> None:
    path = ramp(tmp_path / name, *size)
    page = read_background(random(), path, (500, 400), PageBackground(), compat)
    assert page.shape == (500, 400, 3) and page.dtype == np.uint8
    assert page[..., 2].max() == 0 or name.endswith("jpg")


def test_a_large_picture_is_scaled_to_the_page_and_only_compat_cuts_a_small_piece(
    tmp_path: Path,
) -> None:
    path = ramp(tmp_path / "large.png", 3000, 2000)
    whole = read_background(random(), path, (500, 400), PageBackground())
    piece = read_background(random(), path, (500, 400), PageBackground(), compat=True)
    zoomed = read_background(random(), path, (500, 400), PageBackground(zoom=(2.0, 2.0)))
    heights = [int(np.ptp(page[..., 1])) for page in (whole, zoomed, piece)]
    assert heights == pytest.approx([254, 127, 64], abs=3)


def test_pictures_are_cut_anywhere(tmp_path: Path) -> None:
    path = ramp(tmp_path / "p.png", 300, 100)
    lefts = {
        int(read_background(random(s), path, (50, 50), PageBackground())[0, 0, 0])
        for s in range(20)
    }
    assert len(lefts) > 10 and min(lefts) < 60 and max(lefts) > 110


def test_drawn_backgrounds_are_of_one_colour_or_run_from_one_to_another() -> None:
    plain = draw_background(random(), (20, 30), PageBackground(plain=1.0))
    assert plain.shape == (20, 30, 3) and (plain == plain[0, 0]).all()
    field = draw_background(random(), (200, 300), PageBackground(plain=0.0))
    assert field.std() > 10
    assert np.abs(np.diff(field.astype(int), axis=1)).max() < 30


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    for name in ("broken.jpg", "absent.png"):
        with pytest.raises(InputError, match=name):
            read_background(random(), tmp_path / name, (8, 8), PageBackground())
