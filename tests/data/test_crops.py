"""Crops: boxes stay on the page, layers stay where the page shows them, colour keeps its alpha."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.crops import (
    alpha_box,
    argb_planes,
    enlarge,
    fit_layer,
    fit_layer_planes,
    fit_levels,
    fit_page,
    premultiply,
    resize,
    shrink,
    square,
    union_box,
    unpremultiply,
)
from seethrough.data.layout import Box

FRACTION = st.floats(0, 1, exclude_max=True)


@st.composite
def canvas_and_boxes(draw: st.DrawFn, count: int = 3) -> tuple[int, int, list[Box]]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    boxes: list[Box] = []
    for _ in range(count):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    return height, width, boxes


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)


def test_union_box_of_the_parity_sample():
    """Number 23 of the parity tests."""
    boxes = [(8, 2, 22, 14), (9, 24, 21, 38), (6, 13, 24, 25)]
    assert union_box(boxes, 40, 30) == (6, 2, 24, 38)
    assert union_box([], 40, 30) == (0, 0, 30, 40)


@given(canvas_and_boxes())
def test_union_box_is_the_smallest_around_all(data: tuple[int, int, list[Box]]):
    height, width, boxes = data
    covered = np.zeros((height, width), np.uint8)
    for x1, y1, x2, y2 in boxes:
        covered[y1:y2, x1:x2] = 1
    assert union_box(boxes, height, width) == alpha_box(covered)


def test_alpha_box_of_nothing_is_everything():
    assert alpha_box(np.zeros((4, 7), np.uint8)) == (0, 0, 7, 4)


@given(canvas_and_boxes(1), st.tuples(FRACTION, FRACTION, FRACTION, FRACTION))
def test_enlarged_box_holds_the_box_and_stays_on_the_page(data, fractions):
    height, width, [(x1, y1, x2, y2)] = data
    a1, b1, a2, b2 = enlarge((x1, y1, x2, y2), height, width, fractions)
    assert 0 <= a1 <= x1 and 0 <= b1 <= y1 and x2 <= a2 <= width and y2 <= b2 <= height


@given(canvas_and_boxes(1))
def test_enlarging_reaches_from_nothing_to_the_last_row_and_column(data):
    """The published code never reaches the last row and column."""
    height, width, [box] = data
    assert enlarge(box, height, width, (0, 0, 0, 0)) == box
    nearly = float(np.nextafter(1, 0))
    assert enlarge(box, height, width, (nearly,) * 4) == (0, 0, width, height)


def test_enlarging_is_uniform_over_every_distance():
    rng = np.random.default_rng(0)
    boxes = np.array([enlarge((3, 2, 5, 6), 9, 8, rng.random(4).tolist()) for _ in range(4000)])
    for edge, values in enumerate([range(0, 4), range(0, 3), range(5, 9), range(6, 10)]):
        counts = np.bincount(boxes[:, edge], minlength=10)
        assert counts.sum() == counts[list(values)].sum()
        assert counts[list(values)].min() > 0.85 * 4000 / len(values)


@given(canvas_and_boxes(1))
def test_a_square_has_its_box_in_the_middle(data):
    height, width, [box] = data
    (x1, y1, x2, y2), (a1, b1, a2, b2) = box, square(box)
    assert a2 - a1 == b2 - b1 == max(x2 - x1, y2 - y1)
    assert 0 <= (a2 - x2) - (x1 - a1) <= 1 and 0 <= (b2 - y2) - (y1 - b1) <= 1
    page, whole = picture(4, height, width), (0, 0, width, height)
    assert np.array_equal(fit_page(page, square(whole), 9, False), fit_page(page, whole, 9, False))


@given(st.integers(1, 40), st.tuples(FRACTION, FRACTION, FRACTION))
def test_a_shrunk_square_is_a_square_inside(side: int, fractions: tuple[float, float, float]):
    x1, y1, x2, y2 = shrink((-3, 5, side - 3, side + 5), fractions)
    assert -3 <= x1 < x2 <= side - 3 and 5 <= y1 < y2 <= side + 5
    assert x2 - x1 == y2 - y1 == max(side - round(side * fractions[0]), 1)


def test_a_shrunk_square_reaches_every_edge():
    nearly = float(np.nextafter(1, 0))
    assert shrink((0, 0, 10, 10), (0, nearly, nearly)) == (0, 0, 10, 10)
    assert shrink((0, 0, 10, 10), (0.3, 0, nearly)) == (0, 3, 7, 10)
    assert shrink((0, 0, 10, 10), (0.3, nearly, 0)) == (3, 0, 10, 7)


def test_square_padding_and_area_resize_of_the_parity_array():
    """Number 21 of the parity tests: 6 x 4 is centred on 6 x 6 and halved."""
    array = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    padded = fit_page(array, (0, 0, 4, 6), 6, False)
    assert np.array_equal(padded, np.pad(array, ((0, 0), (1, 1), (0, 0))))
    small = fit_page(array, (0, 0, 4, 6), 3, False)
    assert small[..., 0].tolist() == [[4, 14, 10], [20, 46, 26], [36, 78, 42]]


@given(canvas_and_boxes(1), st.booleans())
def test_without_resizing_the_box_is_centred_exactly(data, flip: bool):
    height, width, [(x1, y1, x2, y2)] = data
    page = picture(0, height, width)
    side = max(x2 - x1, y2 - y1)
    shown = page[y1:y2, x1:x2][:, :: -1 if flip else 1]
    top, left = (side - (y2 - y1)) // 2, (side - (x2 - x1)) // 2
    bottom, right = side - (y2 - y1) - top, side - (x2 - x1) - left
    expected = np.pad(shown, ((top, bottom), (left, right), (0, 0)))
    assert np.array_equal(fit_page(page, (x1, y1, x2, y2), side, flip), expected)


@settings(deadline=None)
@given(canvas_and_boxes(2), st.integers(1, 50), st.booleans())
def test_a_layer_lies_where_its_full_canvas_does(data, side: int, flip: bool):
    height, width, [at, box] = data
    layer = picture(1, at[3] - at[1], at[2] - at[0])
    canvas = np.zeros((height, width, 4), np.uint8)
    canvas[at[1] : at[3], at[0] : at[2]] = layer
    whole = (0, 0, width, height)
    fitted = fit_layer(layer, at, box, side, flip)
    assert fitted.shape == (side, side, 4) and fitted.dtype == np.uint8
    assert np.array_equal(fitted, fit_layer(canvas, whole, box, side, flip))


@settings(deadline=None)
@given(canvas_and_boxes(1), st.integers(1, 50), st.booleans())
def test_page_and_opaque_layer_agree(data, side: int, flip: bool):
    height, width, [box] = data
    page = picture(2, height, width)
    page[..., 3] = 255
    as_page = fit_page(page, box, side, flip).astype(int)
    as_layer = fit_layer(page, (0, 0, width, height), box, side, flip).astype(int)
    assert np.abs(as_page[..., 3] - as_layer[..., 3]).max() <= 1
    # The page's square has a black rim, the layer's a transparent one.
    solid = as_layer[..., 3] == 255
    assert np.abs(as_page - as_layer)[solid].max(initial=0) <= 2


@settings(deadline=None)
@given(canvas_and_boxes(1), st.integers(1, 50))
def test_flipping_is_mirroring_the_page(data, side: int):
    height, width, [(x1, y1, x2, y2)] = data
    page = picture(3, height, width)
    mirrored = np.ascontiguousarray(page[:, ::-1])
    there = (width - x2, y1, width - x1, y2)
    expected = fit_page(mirrored, there, side, False)
    assert np.array_equal(fit_page(page, (x1, y1, x2, y2), side, True), expected)


def traceable(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A page whose colour, and 16-bit levels above 0, tell each pixel's column and row."""
    rows, columns = np.mgrid[:height, :width]
    page = np.dstack([columns * 6, rows * 6, rows * 0, rows * 0 + 255]).astype(np.uint8)
    return page, (rows * width + columns + 1).astype(np.uint16)


@settings(deadline=None)
@given(canvas_and_boxes(1), st.integers(1, 60), st.booleans())
def test_levels_lie_where_the_page_shows_them(data, side: int, flip: bool):
    height, width, [box] = data
    page, levels = traceable(height, width)
    colour = fit_page(page, box, side, flip)
    fitted = fit_levels(levels, (0, 0, width, height), box, side, flip)
    assert fitted.shape == (side, side) and fitted.dtype == np.uint16
    inside = colour[..., 3] == 255  # elsewhere colour is mixed with the zeros around the box
    assert fitted[inside].all()
    rows, columns = np.divmod(fitted.astype(int) - 1, width)
    for shown, told in ((columns, colour[..., 0]), (rows, colour[..., 1])):
        assert np.abs(shown - told / 6)[inside].max(initial=0) <= 0.75


@settings(deadline=None)
@given(canvas_and_boxes(2), st.integers(1, 50), st.booleans())
def test_a_layers_levels_lie_where_their_full_canvas_does(data, side: int, flip: bool):
    height, width, [(x1, y1, x2, y2), box] = data
    _, levels = traceable(height, width)
    canvas = np.zeros_like(levels)
    canvas[y1:y2, x1:x2] = levels[y1:y2, x1:x2]
    fitted = fit_levels(levels[y1:y2, x1:x2], (x1, y1, x2, y2), box, side, flip)
    expected = fit_levels(canvas, (0, 0, width, height), box, side, flip)
    assert np.array_equal(fitted, expected)
    # Levels count: none appears that was not there.
    assert set(fitted.flat) <= {0, *canvas.flat}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_levels_keep_their_type_and_are_not_mixed(kind: type):
    levels = np.array([[1, 1, 9, 9]] * 4, kind)
    fitted = fit_levels(levels, (0, 0, 4, 4), (0, 0, 4, 4), 3, False)
    assert fitted.dtype == kind and fitted[0].tolist() in ([1, 1, 9], [1, 9, 9])


def test_premultiplying_is_exact_and_undone():
    """Every pair of colour and alpha."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.dstack([colour, 255 - colour, colour, alpha]).astype(np.uint8)
    weighted = premultiply(rgba)
    assert weighted.dtype == np.uint16
    assert np.array_equal(weighted[..., 0], colour * alpha)
    assert np.array_equal(weighted[..., 3], alpha * 255)
    expected = rgba.copy()
    expected[0] = 0
    assert np.array_equal(unpremultiply(weighted), expected)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(8, 40), st.integers(2, 60))
def test_resizing_a_layer_of_one_colour_leaves_no_dark_rim(seed: int, size: int, side: int):
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, 3)
    layer = np.zeros((size, size, 4), np.uint8)
    inner = layer[2:-2, 2:-2]
    inner[..., :3] = colour
    inner[..., 3] = rng.integers(1, 256, inner.shape[:2])
    fitted = fit_layer(layer, (0, 0, size, size), (0, 0, size, size), side, False)
    seen = fitted[..., 3] > 0
    assert seen.any()
    assert np.abs(fitted[seen][:, :3].astype(int) - colour).max() <= 2
    assert not fitted[~seen].any()


@pytest.mark.parametrize("side", [10, 16, 20])
def test_resizing_a_layer_keeps_what_it_paints(side: int):
    """Shrinking by area keeps the mean of alpha and of colour times alpha."""
    layer = picture(4, 40, 40)
    box = (0, 0, 40, 40)
    fitted = fit_layer(layer, box, box, side, False)
    before = premultiply(layer).mean((0, 1)) / 255
    after = premultiply(fitted).mean((0, 1)) / 255
    assert np.abs(before - after).max() < 0.5


def test_resize_of_the_same_size_changes_nothing():
    image = picture(5, 9, 9)
    assert np.array_equal(resize(image, 9), image)


def test_growing_is_bilinear_and_shrinking_by_area():
    row = np.array([[0, 100], [0, 100]], np.uint8)[..., None].repeat(4, 2)
    assert resize(row, 4)[0, :, 0].tolist() == [0, 25, 75, 100]
    stripes = np.array([0, 0, 0, 255] * 2, np.uint8)[None, :, None].repeat(8, 0).repeat(4, 2)
    assert (resize(stripes, 2)[..., 0] == 64).all()


@settings(deadline=None)
@given(canvas_and_boxes(2), st.integers(1, 50), st.booleans())
def test_planes_hold_the_same_with_alpha_first(data, side: int, flip: bool):
    _, _, [at, box] = data
    layer = picture(6, at[3] - at[1], at[2] - at[0])
    planes = fit_layer_planes(layer, at, box, side, flip)
    rgba = fit_layer(layer, at, box, side, flip)
    assert np.array_equal(planes, rgba.transpose(2, 0, 1)[[3, 0, 1, 2]])
    assert np.array_equal(argb_planes(rgba), planes)
