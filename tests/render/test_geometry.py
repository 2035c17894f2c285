"""All pieces of a character come to the page on one grid."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.layout import Box
from seethrough.inference.composite import Image8
from seethrough.recipes.render import PageGeometry
from seethrough.render.geometry import Frame, choose_placement, shrinkage, to_frame

random_pixels = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


@given(st.integers(1, 70_000), st.integers(1, 4000))
def test_shrinkage_comes_close_to_the_side_and_never_above(side: int, longest: int) -> None:
    scale = shrinkage(side, longest)
    assert 0 < scale <= 1 and side * scale <= longest
    if side <= longest:
        assert scale == 1
    elif longest >= side / 8:
        assert side * scale > longest - side / 64


@pytest.mark.parametrize(("side", "scale"), [(1280, 1), (1937, Fraction(42, 64)), (20_480, "1/16")])
def test_scales_are_fractions_of_64_or_of_1(side: int, scale) -> None:
    assert shrinkage(side, 1280) == Fraction(scale)


def shown(rgba: Image8, corner: tuple[int, int], frame: Frame) -> tuple[Box, Image8]:
    """What a frame shows of a picture that has pixels in it."""
    placed = to_frame(rgba, corner, frame)
    assert placed is not None
    return placed


@settings(max_examples=40)
@given(random_pixels, st.integers(10, 200), st.integers(10, 200), st.integers(8, 150), st.data())
def test_pieces_that_meet_in_the_character_meet_on_the_page(random, width, height, longest, data):
    """Cut in two, and put together on the page, an opaque picture is whole."""
    left, top = random.integers(-30, 30, 2).tolist()
    cut = data.draw(st.integers(1, width - 1))
    rgba = random.integers(0, 256, (height, width, 4), np.uint8)
    rgba[..., 3] = 255
    scale = shrinkage(max(width, height), longest)
    frame = Frame((left, top, left + width, top + height), scale)
    box, whole = shown(rgba, (left, top), frame)
    assert box == (0, 0, *frame.size[::-1])
    total = np.zeros((*frame.size, 4))
    for part, x in ((rgba[:, :cut], left), (rgba[:, cut:], left + cut)):
        placed = to_frame(np.ascontiguousarray(part), (x, top), frame)
        if placed is not None:
            (x1, y1, x2, y2), pixels = placed
            alpha = pixels[..., 3:].astype(float)
            total[y1:y2, x1:x2] += np.concatenate([pixels[..., :3] * alpha / 255, alpha], axis=-1)
    solid = whole[..., 3] == 255
    assert solid.sum() >= (frame.size[0] - 1) * (frame.size[1] - 1)
    assert np.abs(total - whole)[solid].max(initial=0) <= 2


def test_shrunk_pixels_are_means_weighted_by_alpha() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :2] = (200, 100, 0, 255)
    rgba[0, 0] = (0, 100, 0, 51)
    rgba[3, 3] = (250, 30, 20, 4)
    frame = Frame((0, 0, 4, 4), Fraction(1, 2))
    box, shrunk = shown(rgba, (0, 0), frame)
    assert box == (0, 0, 2, 2)
    # (3 * 255 * 200) / (3 * 255 + 51), and a colour under faint alpha is kept.
    assert shrunk.tolist() == [
        [[188, 100, 0, 204], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [250, 30, 20, 1]],
    ]


def test_a_picture_that_is_not_shrunk_stays_as_it_is() -> None:
    rgba = np.random.default_rng(0).integers(1, 256, (5, 7, 4), np.uint8)
    box, placed = shown(rgba, (13, 21), Frame((10, 20, 40, 40), Fraction(1)))
    assert box == (3, 1, 10, 6) and np.array_equal(placed, rgba)


@given(random_pixels, st.integers(1, 300), st.integers(1, 300))
def test_a_page_is_up_to_half_larger_and_holds_the_frame(random, width: int, height: int) -> None:
    placement = choose_placement(random, (height, width), PageGeometry())
    page_height, page_width = placement.size
    longest = max(width, height)
    assert longest <= max(placement.size) <= round(1.5 * longest)
    if width == height:
        assert page_height == page_width
    else:
        assert (page_width > page_height) <= (width > height)
    x1, y1, x2, y2 = placement.box((0, 0, width, height))
    assert x1 >= 0 <= y1 and x2 <= page_width and y2 <= page_height
