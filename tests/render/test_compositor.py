"""The "over" operator, and the published renderer's sums of alphas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.characters.blend import draw
from seethrough.render.compositor import composite, page_of, premultiplied, straight
from seethrough.render.pieces import Piece
from tests.render.art import piece

HALF_RED, HALF_BLUE = (255, 0, 0, 128), (0, 0, 255, 128)
BOX = (0, 0, 1, 1)


def test_two_halves_cover_three_quarters_and_not_all() -> None:
    halves = [piece("face", BOX, HALF_RED), piece("nose", BOX, HALF_BLUE)]
    assert straight(composite(halves, BOX))[0, 0].tolist() == [85, 0, 170, 192]
    assert premultiplied(composite(halves, BOX, compat=True))[0, 0].tolist() == [63, 0, 128, 255]


@pytest.mark.parametrize(("compat", "expected"), [(False, [178, 50, 50]), (True, [177, 49, 49])])
def test_half_red_before_a_background(compat: bool, expected: list[int]) -> None:
    drawn = composite([piece("face", BOX, HALF_RED)], BOX, compat)
    page = page_of(drawn, np.full((1, 1, 3), 100, np.uint8), compat)
    assert page[0, 0].tolist() == [*expected, 128]


def random_pieces(seed: int, blend: str = "normal") -> list[Piece]:
    random = np.random.default_rng(seed)
    pieces = []
    for _ in range(random.integers(1, 7)):
        x, y = random.integers(0, 8, 2).tolist()
        width, height = random.integers(1, 5, 2).tolist()
        rgba = random.integers(0, 256, (height, width, 4), np.uint8)
        alpha = np.array([0, 255, random.integers(256)], np.uint8)
        rgba[..., 3] = random.choice(alpha, (height, width))
        rgba[rgba[..., 3] == 0] = 0
        pieces.append(Piece("face", blend, (x, y, x + width, y + height), rgba))
    return pieces


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["normal", "multiply", "add"]))
def test_pixels_are_those_of_the_plain_formula(seed: int, blend: str) -> None:
    pieces = random_pieces(seed, blend)
    colour, alpha = np.zeros((12, 12, 3)), np.zeros((12, 12))
    for one in pieces:
        x1, y1, x2, y2 = one.box
        here = np.s_[y1:y2, x1:x2]
        source = one.rgba / 255
        draw(colour[here], alpha[here], source[..., :3], source[..., 3], blend)
    drawn = composite(pieces, (0, 0, 12, 12))
    expected = np.dstack([colour, alpha]) * 255
    assert np.abs(drawn - expected).max() < 0.01
    rgba = straight(drawn)
    assert np.abs(rgba[..., 3] - expected[..., 3]).max() < 0.51
    back = rgba[..., :3] * expected[..., 3:] / 255
    assert np.abs(back - expected[..., :3]).max() < 0.51
    background = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    page = page_of(drawn, background)
    behind = background * (1 - expected[..., 3:] / 255)
    assert np.abs(page[..., :3] - behind - expected[..., :3]).max() < 0.51
    assert np.array_equal(page[..., 3], rgba[..., 3])


def test_a_part_of_the_frame_is_drawn_as_in_the_whole() -> None:
    pieces = [one for one in random_pieces(4) if one.box[0] >= 2 and one.box[1] >= 1]
    assert pieces
    whole = composite(pieces, (0, 0, 12, 12))
    assert np.array_equal(composite(pieces, (2, 1, 12, 12)), whole[1:, 2:])
