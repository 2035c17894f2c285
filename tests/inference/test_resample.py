import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seethrough.inference.resample import resample

layers = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x1, y1 = draw(st.floats(-20, 20)), draw(st.floats(-20, 20))
    return x1, y1, x1 + draw(st.floats(0.01, 40)), y1 + draw(st.floats(0.01, 40))


@given(layers)
def test_a_layer_as_it_is_stays_as_it_is(layer: np.ndarray):
    height, width = layer.shape[:2]
    result = resample(layer, (0, 0, width, height), (width, height))
    shown = layer[..., 3] > 0
    assert np.array_equal(result[shown], layer[shown])
    assert not result[~shown].any()


@given(layers, boxes(), st.integers(1, 9), st.integers(1, 9))
def test_any_box_gives_the_size_asked_for(
    layer: np.ndarray, box: tuple[float, float, float, float], width: int, height: int
):
    result = resample(layer, box, (width, height))
    assert result.shape == (height, width, 4) and result.dtype == np.uint8
    assert result[..., 3].max() <= layer[..., 3].max()
    # An edge is soft over a pixel of the layer or of the result, whichever is larger.
    x1, y1, x2, y2 = box
    soft_x, soft_y = max(1.0, (x2 - x1) / width), max(1.0, (y2 - y1) / height)
    beside = x1 >= layer.shape[1] + soft_x or x2 <= -soft_x
    if beside or y1 >= layer.shape[0] + soft_y or y2 <= -soft_y:
        assert not result.any()


@given(boxes(), st.integers(1, 9), st.integers(1, 9))
def test_colour_is_not_mixed_with_that_of_nothing(
    box: tuple[float, float, float, float], width: int, height: int
):
    layer = np.zeros((10, 10, 4), np.uint8)
    layer[2:7, 3:9] = (250, 130, 10, 255)
    result = resample(layer, box, (width, height))
    shown = result[..., 3] > 0
    assert (result[shown, :3] == (250, 130, 10)).all()


def test_a_layer_much_finer_than_its_place_keeps_its_coverage():
    # A pixel's worth of canvas for the whole of it, and more beside: nothing may shift or swell.
    layer = np.full((64, 64, 4), 255, np.uint8)
    layer[:, 32:, 3] = 0
    result = resample(layer, (-3000.0, -3000.0, 3000.0, 3000.0), (4, 4))
    assert result.shape == (4, 4, 4) and not result[0].any() and not result[:, 3].any()
    left, right = resample(layer, (0, 0, 64, 64), (2, 2))[0, :, 3].tolist()
    assert left + right == 255 and left > 230
    assert resample(layer, (0, 0, 64, 64), (1, 1))[0, 0].tolist() == [255, 255, 255, 128]


@given(layers, boxes(), st.integers(5, 9), st.integers(5, 9), st.integers(0, 6))
def test_nothing_around_a_layer_makes_no_difference(
    layer: np.ndarray, box: tuple[float, float, float, float], width: int, height: int, rim: int
):
    layer = np.pad(layer, ((8, 8), (8, 8), (0, 0)))  # at its own edge a layer isn't softened
    around = np.pad(layer, ((rim, rim), (rim, rim), (0, 0)))
    x1, y1, x2, y2 = box
    moved = (x1 + rim, y1 + rim, x2 + rim, y2 + rim)
    ours = resample(layer, box, (width, height)).astype(int)
    theirs = resample(around, moved, (width, height)).astype(int)
    assert np.abs(ours[..., 3] - theirs[..., 3]).max() <= 1
    # Where alpha is a few levels, colour is what rounding makes of it.
    solid = ours[..., 3] > 64
    assert np.abs(ours - theirs)[solid].max(initial=0) <= 1
