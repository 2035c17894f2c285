"""What hides what, and levels of depth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.depth import disk_to_depth
from seethrough.data.pictures import decode
from seethrough.render.files import levels_png
from seethrough.render.visibility import drawing_levels, levels_of, visible_masks
from tests.render.art import piece, stack_pieces
from tests.render.test_compositor import random_pieces

BOX = (0, 0, 4, 4)
RULES = {"seen_above": 25, "hidden_above": 0.9}


@pytest.mark.parametrize(
    ("above", "compat", "hidden"),
    [
        ([128], True, False),
        ([128, 128], True, True),
        ([128, 128], False, False),
        ([128, 128, 128, 128], False, True),
        ([229], True, False),
        ([230], True, True),
        ([229], False, False),
        ([230], False, True),
    ],
)
def test_a_pixel_is_hidden_where_more_than_nine_tenths_cover_it(above, compat, hidden) -> None:
    """One minus the product of what the layers let through; published: the sum of alphas."""
    pieces = [piece("neck", BOX, (9, 9, 9, 255))]
    pieces += [piece("face", BOX, (9, 9, 9, alpha)) for alpha in above]
    masks = visible_masks(pieces, (4, 4), **RULES, compat=compat)
    assert masks["neck"].inside.any() != hidden


def test_a_shadow_that_multiplies_hides_nothing() -> None:
    shadow = piece("objects", BOX, (90, 90, 90, 255), blend="multiply")
    masks = visible_masks([piece("neck", BOX, (9, 9, 9, 255)), shadow], (4, 4), **RULES)
    assert masks["neck"].inside.all() and masks["objects"].inside.all()


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=50)
def test_masks_and_levels_are_those_of_the_rules_written_out(seed: int, compat: bool) -> None:
    pieces = random_pieces(seed)
    planes = np.zeros((len(pieces), 12, 12))
    for plane, one in zip(planes, pieces, strict=True):
        x1, y1, x2, y2 = one.box
        plane[y1:y2, x1:x2] = one.alpha / 255
    seen = np.zeros((12, 12), bool)
    for at, plane in enumerate(planes):
        above = planes[at + 1 :]
        cover = above.sum(0) if compat else 1 - np.prod(1 - above, axis=0)
        seen |= (plane * 255 > 25.5) & (cover <= 0.9)
    mask = visible_masks(pieces, (12, 12), **RULES, compat=compat)["face"]
    drawn = np.zeros((12, 12), bool)
    drawn[mask.box[1] : mask.box[3], mask.box[0] : mask.box[2]] = mask.inside
    assert np.array_equal(drawn, seen)

    level, current = 1, np.zeros((12, 12), bool)
    expected, depth = [], np.zeros((12, 12), int)
    for plane in planes > 0.1:
        if (plane & current).any():
            level, current = level + 1, plane
        else:
            current = current | plane
        expected.append(level)
        depth[plane] = level
    levels, found = drawing_levels(pieces, (12, 12), 25)
    assert levels == expected and np.array_equal(found, depth)


def test_levels_of_the_stack() -> None:
    assert drawing_levels(stack_pieces(), (170, 120), 25)[0] == [1, 2, 3, 3, 4, 4, 5]


def test_three_hundred_levels_survive_file_and_reader(tmp_path) -> None:
    pieces = [piece("face", (0, 0, 1 + at, 1), (9, 9, 9, 255)) for at in reversed(range(300))]
    levels, depth = drawing_levels(pieces, (1, 300), 25)
    assert depth.dtype == np.uint16 and levels == list(range(1, 301))
    nearest = zip(pieces, levels, strict=True)
    assert np.array_equal(levels_of(nearest, (0, 0, 300, 1), 25, depth.dtype), depth)
    stored = np.asarray(decode(tmp_path / "depth.png", levels_png(depth)))
    assert stored[0].tolist() == list(range(300, 0, -1))
    seen = disk_to_depth(stored.astype(np.uint16), 300)[0]
    assert seen[0] == pytest.approx(-1) and (np.diff(seen) > 0).all()
