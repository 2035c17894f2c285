import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.crops import fit_page
from seethrough.data.layout import Box
from seethrough.inference.head_crop import Paste, Square, head_box, head_rect, paste, paste_box

Span = tuple[int, int]


def published_box(rect: Box, canvas: Square) -> Box:
    """The published arithmetic from a box on the canvas to one of the source, (x1, y1, x2, y2).

    Exact where the published one computes in floating point; not brought inside the picture.
    """
    edges: list[Span] = []
    for start, end, pad in ((rect[0], rect[2], canvas.left), (rect[1], rect[3], canvas.top)):
        first = start * canvas.side // canvas.resolution - pad
        edges.append((first, first + (end - start) * canvas.side // canvas.resolution))
    (x1, x2), (y1, y2) = edges
    return x1, y1, x2, y2


def published_crop(box: Box, canvas: Square) -> Box:
    """The published margin around a box of the source."""
    edges: list[Span] = []
    for first, last, size in ((box[0], box[2], canvas.width), (box[1], box[3], canvas.height)):
        if last - first < size // 2:
            grow = min(size - last, first, (last - first) // 5)
            first, last = first - grow, last + grow
        edges.append((first, last))
    (x1, x2), (y1, y2) = edges
    return x1, y1, x2, y2


def published_paste(
    crop: Box, width: int, height: int, resolution: int
) -> tuple[Span, Span, int, Span, Span]:
    """The published place of a head crop, all truncated: (X, Y) on the canvas, padding of the
    head square (px, py) in source pixels, its side on the canvas, and the rows and columns of it
    that are kept."""
    side = max(width, height)
    w, h = crop[2] - crop[0], crop[3] - crop[1]
    head_side = max(w, h)
    px, py = (head_side - w) // 2, (head_side - h) // 2

    def on_canvas(pixels: int) -> int:
        return pixels * resolution // side

    place = (
        on_canvas(crop[0] + (side - width) // 2),
        on_canvas(crop[1] + (side - height) // 2),
    )
    rows = (on_canvas(py), on_canvas(py + h))
    columns = (on_canvas(px), on_canvas(px + w))
    return place, (px, py), on_canvas(head_side), rows, columns


PUBLISHED = {
    "tall": (
        (900, 1600), (540, 60, 740, 280), (275, 20, 625, 405),
        ((500, 16), (17, 0), 308, (0, 308), (13, 293)), (500, 16, 780, 324),
    ),
    "small": (
        (1000, 1000), (300, 20, 1000, 620), (234, 0, 780, 498),
        ((299, 0), (0, 24), 698, (30, 668), (0, 698)), (299, 0, 999, 638),
    ),
}  # fmt: skip
"""Size of the source, head on a canvas of 1280, crop of the source, published place on the canvas,
and ours, which loses nothing: the edge at 998.4 is in it, while truncation stops at 997."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_boxes_are_the_published_ones(name: str):
    (width, height), rect, crop, place, window = PUBLISHED[name]
    canvas = Square(width, height, 1280)
    assert canvas.side / 1280 == {"tall": 1.25, "small": 0.78125}[name]
    assert published_crop(published_box(rect, canvas), canvas) == crop == head_box(rect, canvas)
    assert published_paste(crop, width, height, 1280) == place
    (left, top), pads, _, rows, columns = place
    head = Square(crop[2] - crop[0], crop[3] - crop[1], 1280)
    assert (head.left, head.top) == pads
    ours = paste_box(crop, canvas).window
    assert ours == window
    assert ours[:2] == (left, top)
    assert 0 <= ours[2] - (left + columns[1] - columns[0]) <= 2
    assert 0 <= ours[3] - (top + rows[1] - rows[0]) <= 2


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(15, None), (16, (2, 3, 5, 7))],
)
def test_the_head_is_where_alpha_exceeds_the_threshold(alpha: int, expected: object):
    plane = np.zeros((12, 12), np.uint8)
    plane[3:7, 2:5] = alpha
    assert head_rect(plane) == expected


def test_speckles_do_not_enlarge_the_head():
    plane = np.zeros((64, 64), np.uint8)
    plane[10:30, 20:40] = 200
    plane[60, 60] = 255
    assert head_rect(plane) == (20, 10, 40, 30)
    assert head_rect(plane, speckle=0.0) == (20, 10, 61, 61)
    # Two parts of one head, cut in two by what lies in front, both count.
    plane[10:30, 28:32] = 0
    assert head_rect(plane) == (20, 10, 40, 30)


def test_specks_alone_are_no_head():
    plane = np.zeros((100, 100), np.uint8)
    plane[10, 10] = plane[60, 60] = 255
    assert head_rect(plane, least=2e-4) is None
    assert head_rect(plane) == (10, 10, 61, 61)
    plane[30:33, 30:33] = 255
    assert head_rect(plane, least=2e-4, speckle=0.2) == (30, 30, 33, 33)


def test_a_head_in_the_padding_is_none():
    assert head_box((0, 0, 10, 64), Square(20, 100, 64)) is None


def test_options_set_the_margin():
    canvas = Square(100, 100, 100)
    assert head_box((40, 40, 60, 60), canvas, margin=0.5) == (30, 30, 70, 70)
    assert head_box((40, 40, 60, 60), canvas, margin_below=0.2) == (40, 40, 60, 60)


sizes = st.integers(1, 200)


@st.composite
def rects(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], Square]:
    resolution = draw(sizes)
    x1, y1 = draw(st.integers(0, resolution - 1)), draw(st.integers(0, resolution - 1))
    x2, y2 = draw(st.integers(x1 + 1, resolution)), draw(st.integers(y1 + 1, resolution))
    return (x1, y1, x2, y2), Square(draw(sizes), draw(sizes), resolution)


@given(rects())
def test_crops_are_the_published_ones_wherever_the_head_lies_on_the_picture(
    case: tuple[tuple[int, int, int, int], Square],
):
    rect, canvas = case
    x1, y1, x2, y2 = box = published_box(rect, canvas)
    if 0 <= x1 < x2 <= canvas.width and 0 <= y1 < y2 <= canvas.height:
        assert head_box(rect, canvas) == published_crop(box, canvas)


@given(rects())
def test_places_are_the_published_ones_up_to_truncation(
    case: tuple[tuple[int, int, int, int], Square],
):
    rect, canvas = case
    if (crop := head_box(rect, canvas)) is None:
        return
    size = (canvas.width, canvas.height, canvas.resolution)
    (left, top), _, _, rows, columns = published_paste(crop, *size)
    x1, y1, x2, y2 = paste_box(crop, canvas).window
    assert (x1, y1) == (left, top)
    # Two truncated ends, of which each loses less than a pixel, and a rounded one.
    assert -1 <= x2 - (left + columns[1] - columns[0]) <= 2
    assert -1 <= y2 - (top + rows[1] - rows[0]) <= 2


def test_a_margin_is_a_fifth_of_whole_pixels():
    """Computed in floating point, it is nowhere a pixel less."""
    assert all(int(length * 0.2) == length // 5 for length in range(20_000))


@given(rects(), st.floats(0, 2), st.floats(0, 1))
def test_every_box_lies_on_its_picture(
    case: tuple[tuple[int, int, int, int], Square], margin: float, margin_below: float
):
    rect, canvas = case
    crop = head_box(rect, canvas, margin, margin_below)
    if crop is None:
        return
    x1, y1, x2, y2 = crop
    assert 0 <= x1 < x2 <= canvas.width
    assert 0 <= y1 < y2 <= canvas.height
    place = paste_box(crop, canvas)
    x1, y1, x2, y2 = place.window
    assert 0 <= x1 < x2 <= canvas.resolution
    assert 0 <= y1 < y2 <= canvas.resolution
    # The window's source reaches beyond the crop's content by less than a canvas pixel.
    head = Square(crop[2] - crop[0], crop[3] - crop[1], canvas.resolution)
    pixel = canvas.side / head.side
    scale = canvas.resolution / head.side
    content = (
        head.left * scale,
        head.top * scale,
        (head.left + head.width) * scale,
        (head.top + head.height) * scale,
    )
    outward = np.array([-1, -1, 1, 1]) * (np.array(place.source) - np.array(content))
    assert (outward > -1e-6).all()
    assert (outward < pixel + 1e-6).all()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))
def test_paste_undoes_the_crop_at_the_page_s_own_scale(x: int, y: int, w: int, h: int):
    # The source is as large as the canvas: a square crop grown to R and shrunk back must land
    # within a pixel of where it was.
    side = 80
    canvas = Square(side, side, side)
    page = np.zeros((side, side, 4), np.uint8)
    page[y : y + h, x : x + w] = (200, 100, 50, 255)
    crop = (x, y, x + w, y + h)
    back = paste(fit_page(page, crop, side, flip=False), paste_box(crop, canvas))
    assert np.array_equal(back[..., 3] > 0, page[..., 3] > 0)
    # Only the rim may have been softened by the way there and back.
    interior = back[y + 1 : y + h - 1, x + 1 : x + w - 1]
    assert (interior == (200, 100, 50, 255)).all()


def test_the_whole_page_as_head_changes_nothing():
    rng = np.random.default_rng(0)
    layer = rng.integers(0, 256, (32, 32, 4), dtype=np.uint8)
    place = paste_box((0, 0, 48, 20), Square(48, 20, 32))
    pasted = paste(layer, paste_box((0, 0, 20, 20), Square(20, 20, 32)))
    shown = layer[..., 3] > 0
    assert np.array_equal(pasted[shown], layer[shown])
    assert place.window == (0, 9, 32, 23)
    inside = paste(layer, place)
    assert not inside[:9].any() and not inside[23:].any()
    assert np.array_equal(inside[9:23][shown[9:23]], layer[9:23][shown[9:23]])


def test_paste_keeps_the_centre_of_mass_where_it_was():
    # A disc in the head picture of an odd crop must come back without a shift.
    canvas = Square(301, 200, 128)
    crop = (83, 31, 190, 108)
    place = paste_box(crop, canvas)
    rows, columns = np.mgrid[:128, :128] + 0.5
    layer = np.zeros((128, 128, 4), np.uint8)
    layer[(rows - 70) ** 2 + (columns - 60) ** 2 < 18**2] = 255
    pasted = paste(layer, place)[..., 3].astype(float)
    scale = canvas.side / 128
    head_scale = 107 / 128
    expected_x = (60 * head_scale + 83 + canvas.left) / scale
    expected_y = (70 * head_scale - (107 - 77) // 2 + 31 + canvas.top) / scale
    weight = pasted.sum()
    assert (pasted.sum(0) @ columns[0]) / weight == pytest.approx(expected_x, abs=0.02)
    assert (pasted.sum(1) @ rows[:, 0]) / weight == pytest.approx(expected_y, abs=0.02)


def test_colour_is_not_darkened_at_the_rim():
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[10:50, 10:50] = (250, 240, 230, 255)
    pasted = paste(layer, Paste((3, 3, 21, 21), (-1.7, -1.7, 65.3, 65.3), 64))
    assert (pasted[pasted[..., 3] > 0][:, :3] == (250, 240, 230)).all()
    assert ((pasted[..., 3] > 0) & (pasted[..., 3] < 255)).any()


def test_an_empty_layer_stays_empty():
    assert not paste(np.zeros((8, 8, 4), np.uint8), Paste((1, 1, 4, 4), (0, 0, 8, 8), 8)).any()
