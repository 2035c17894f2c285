"""Parts come to the size of their picture where they were, in their order."""

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.inference.composite import Image8, Placed, flatten_placed
from seethrough.inference.head_crop import Square
from seethrough.inference.parts import Part, cut_part
from seethrough.inference.picture_size import at_picture_size

RESOLUTION = 40


def part(name: str, box: tuple[int, int, int, int], depth: float = 0.5) -> Part:
    """A solid rectangle of the canvas, its depth growing to the right by a tenth."""
    left, top, right, bottom = box
    rgba = np.full((bottom - top, right - left, 4), (200, 90, 30, 255), np.uint8)
    ramp = np.linspace(depth, depth + 0.1, right - left, dtype=np.float32)
    depths = np.broadcast_to(ramp, rgba.shape[:2])
    return cut_part(Placed(name=name, box=box, rgba=rgba), name, depths)


def picture_of(canvas: Square) -> Image8:
    rows, columns = np.indices((canvas.height, canvas.width))
    return np.dstack([rows % 256, columns % 256, 0 * rows, 0 * rows + 255]).astype(np.uint8)


@given(width=st.integers(1, 300), height=st.integers(1, 300), data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_part_is_where_it_was(width: int, height: int, data: st.DataObject) -> None:
    canvas = Square(width, height, RESOLUTION)
    left, top = (data.draw(st.integers(0, RESOLUTION - 8)) for _ in "xy")
    right, bottom = (
        data.draw(st.integers(start + 4, RESOLUTION)) for start in (left, top)
    )  # fmt: skip
    brought = at_picture_size(
        [part("face", (left, top, right, bottom))], canvas, picture_of(canvas)
    )
    pixel = max(canvas.side / RESOLUTION, 1.0)
    sides = zip(
        (left, top), (right, bottom), (canvas.left, canvas.top), (width, height), strict=True
    )
    expected = [
        (
            max(start / RESOLUTION * canvas.side - pad, 0),
            min(end / RESOLUTION * canvas.side - pad, size),
        )
        for start, end, pad, size in sides
    ]
    if any(end - start < 1 for start, end in expected):
        return  # in the padding, or less than a pixel
    (found,) = brought
    for axis, (start, end) in enumerate(expected):
        assert abs(found.box[axis] - start) <= pixel
        assert abs(found.box[axis + 2] - end) <= pixel
    assert found.rgba.shape[:2] == found.depth.shape
    solid = found.rgba[..., 3] > 10
    assert found.depth[solid].min() >= 0.5 - 1e-5 and found.depth[solid].max() <= 0.6 + 1e-5
    assert (found.rgba[found.rgba[..., 3] > 0, :3] == (200, 90, 30)).all()


def test_names_and_order_stay() -> None:
    canvas = Square(100, 80, RESOLUTION)
    parts = [part("face", (4, 10, 30, 30), 0.7), part("mouth", (10, 20, 20, 26), 0.2)]
    parts[1] = attrs.evolve(parts[1], name="mouth-l", depth_median=0.123)
    brought = at_picture_size(parts, canvas, picture_of(canvas))
    assert [(found.name, found.tag) for found in brought] == [
        ("face", "face"),
        ("mouth-l", "mouth"),
    ]
    assert [found.depth_median for found in brought] == [one.depth_median for one in parts]
    flat = flatten_placed(brought, (80, 100))
    assert flat.alpha[40, 40] == 1


def test_what_takes_its_colour_from_the_page_takes_it_from_the_picture() -> None:
    canvas = Square(120, 120, RESOLUTION)
    picture = picture_of(canvas)
    (found,) = at_picture_size([part("nose", (10, 10, 20, 20))], canvas, picture)
    assert np.array_equal(found.rgba[..., :3], picture[found.window][..., :3])


def test_a_canvas_of_the_picture_s_own_size_changes_nothing() -> None:
    canvas = Square(RESOLUTION, RESOLUTION, RESOLUTION)
    given_part = part("face", (4, 10, 30, 30))
    (found,) = at_picture_size([given_part], canvas, picture_of(canvas))
    assert found.box == given_part.box
    assert np.array_equal(found.rgba, given_part.rgba)
    assert found.depth == pytest.approx(given_part.depth)


def test_what_shrinks_to_nothing_is_left_out() -> None:
    canvas = Square(2, 2, RESOLUTION)
    speck, face = part("tail", (5, 5, 7, 8)), part("face", (0, 0, 40, 40))
    brought = at_picture_size([speck, face], canvas, picture_of(canvas))
    assert [found.name for found in brought] == ["face"]
