"""Parts in the order that the page shows."""

from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.avatars import draw_character
from seethrough.inference.composite import Image8
from seethrough.inference.page_order import MATCH, follow_page, shown_orders
from seethrough.inference.parts import Part, cut_parts, fixed_depths, order_parts

SIDE = 64
RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)
Box = tuple[int, int, int, int]


def part(tag: str, box: Box, color: tuple[int, int, int], depth: float, alpha: int = 255) -> Part:
    left, top, right, bottom = box
    size = (bottom - top, right - left)
    rgba = np.full((*size, 4), (*color, alpha), np.uint8)
    plane = np.full(size, depth, np.float32)
    return Part(name=tag, tag=tag, box=box, rgba=rgba, depth=plane, depth_median=depth)


def drawn(*parts: Part, noise: int = 0) -> Image8:
    """The parts over each other, in this order, on gray."""
    page = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for one in parts:
        page[one.window] = one.rgba[..., :3]
    change = np.random.default_rng(0).integers(-noise, noise + 1, page.shape)
    return np.clip(page + change, 0, 255).astype(np.uint8)


def tags(parts: list[Part]) -> list[str]:
    return [one.tag for one in parts]


HAT, HAIR, FACE = (
    part("headwear", (8, 8, 56, 28), RED, 0.2),
    part("front hair", (12, 16, 52, 40), GREEN, 0.3),
    part("face", (20, 20, 44, 56), BLUE, 0.6),
)
BY_DEPTH = [FACE, HAIR, HAT]


@pytest.mark.parametrize("noise", [0, 10])
def test_a_part_comes_before_what_it_covers_on_the_page(noise: int) -> None:
    found = follow_page(BY_DEPTH, drawn(FACE, HAT, HAIR, noise=noise))
    assert tags(found) == ["face", "headwear", "front hair"]
    medians = [one.depth_median for one in found]
    assert medians == sorted(medians, reverse=True) and medians[-1] == pytest.approx(0.199)
    # What didn't move is as it was.
    assert found[0] is FACE and found[1] is HAT


def test_parts_that_the_page_agrees_with_stay_as_they_are() -> None:
    assert all(
        one is other
        for one, other in zip(follow_page(BY_DEPTH, drawn(*BY_DEPTH)), BY_DEPTH, strict=True)
    )


def test_the_page_s_order_holds_at_the_nearest_depth_too() -> None:
    """Medians end at 0: parts there lie as they must, the others as they were."""
    near = [attrs.evolve(one, depth_median=0.0) for one in (HAIR, HAT)]
    assert tags(follow_page([FACE, *near], drawn(FACE, HAT, HAIR))) == [
        "face", "headwear", "front hair",
    ]  # fmt: skip
    apart = [part(tag, (0, 0, 4, 4), RED, 0.0) for tag in ("tail", "wings", "objects")]
    assert tags(follow_page(apart, drawn())) == ["tail", "wings", "objects"]


def test_depth_decides_where_the_page_does_not_tell() -> None:
    """Of one colour; behind a third; translucent; beside each other; coloured from the page."""
    page = drawn(FACE, HAT, HAIR)
    same = part("headwear", HAT.box, GREEN, 0.2)
    assert not shown_orders([same, HAIR], drawn(same, HAIR))
    cover = part("objects", (0, 0, SIDE, SIDE), (250, 250, 250), 0.1)
    covered = shown_orders([HAT, HAIR, cover], drawn(HAT, HAIR, cover))
    assert set(covered) == {(2, 0), (2, 1)}
    glass = part("eyewear", HAT.box, RED, 0.2, alpha=150)
    assert not shown_orders([glass, HAIR], page)
    assert not shown_orders([HAT, part("footwear", (0, 50, 10, 60), BLUE, 0.5)], page)
    assert not shown_orders([part("nose", (26, 30, 36, 40), BLUE, 0.7), FACE], page)
    assert not shown_orders([HAT, HAIR], drawn(part("wings", (0, 0, 64, 64), (1, 1, 1), 1)))


def test_the_surest_pairs_win_where_the_page_contradicts_itself() -> None:
    """Three parts in a ring: the pair that fewest pixels show gives way."""
    first = part("topwear", (0, 0, 40, 40), RED, 0.5)
    second = part("handwear", (20, 0, 64, 40), GREEN, 0.5)
    third = part("objects", (0, 36, 64, 64), BLUE, 0.5)
    page = drawn(first, second, third)
    page[36:40, :37] = RED
    shown = shown_orders([first, second, third], page)
    assert shown == [(1, 0), (0, 2), (2, 1)]
    ordered = tags(follow_page([first, second, third], page))
    assert ordered == ["objects", "topwear", "handwear"]


def test_what_lies_on_a_face_stays_there() -> None:
    """Eyes that were painted in the face's colour don't hide behind it."""
    eyes = part("irides", (26, 30, 36, 36), BLUE, 0.5)
    skin = part("face", FACE.box, (20, 90, 200), 0.6)
    page = drawn(eyes, skin)
    assert shown_orders([skin, eyes], page) == [(0, 1)]
    assert tags(follow_page([skin, eyes], page)) == ["face", "irides"]


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_any_order_is_found_again(true: list[int], told: list[int]) -> None:
    """Squares that all overlap in part, from any order of depths."""
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250)]
    names = ["topwear", "handwear", "tail", "wings", "objects"]
    squares = [
        part(names[i], (4 + 6 * i, 4 + 6 * (i % 2), 34 + 6 * i, 60), colors[i], 0.1 + 0.15 * place)
        for place, i in enumerate(told)
    ]
    by_tag = {one.tag: one for one in squares}
    page = drawn(*(by_tag[names[i]] for i in true))
    backwards = sorted(squares, key=lambda one: -one.depth_median)
    found = tags(follow_page(backwards, page))
    for places in shown_orders(backwards, page):
        front, back = (backwards[place].tag for place in places)
        assert true.index(names.index(front)) > true.index(names.index(back))
        assert found.index(front) > found.index(back)


def test_a_large_page_is_looked_at_in_steps() -> None:
    big: Any = [
        np.zeros((1200, 900, 4), np.uint8),
        np.zeros((1200, 900, 4), np.uint8),
    ]
    big[0][100:700, 100:700] = (*RED, 255)
    big[1][400:1100, 300:800] = (*GREEN, 255)
    layers = {"topwear": big[0], "front hair": big[1]}
    page = np.full((1200, 900, 3), 128, np.uint8)
    for layer in (big[1], big[0]):
        page[layer[..., 3] > 0] = layer[layer[..., 3] > 0][:, :3]
    parts = order_parts(cut_parts(layers, fixed_depths(layers)))
    assert tags(parts) == ["topwear", "front hair"]
    assert tags(follow_page(parts, page)) == ["front hair", "topwear"]
    assert shown_orders(parts, page) == [(0, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_true_layers_lie_as_they_were_drawn(seed: int) -> None:
    """Drawn characters, from a fixed order: pairs that the page shows come out as drawn."""
    character = draw_character(seed, "test", 128)
    layers = {layer.tag: layer.rgba for layer in character.layers}
    parts = order_parts(cut_parts(layers, fixed_depths(layers)))
    orders = shown_orders(parts, character.page)
    drawn_at = list(layers)
    right = [
        drawn_at.index(parts[front].tag) > drawn_at.index(parts[back].tag) for front, back in orders
    ]
    assert len(right) > 4 and np.mean(right) > 0.85


def test_colours_that_are_too_far_from_the_page_show_nothing() -> None:
    page = drawn(FACE, HAT, HAIR)
    shifted = page.astype(int) + MATCH + 1
    assert not shown_orders(BY_DEPTH, np.clip(shifted, 0, 255).astype(np.uint8))
