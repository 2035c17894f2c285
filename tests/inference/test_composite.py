import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seethrough.data.tags import TAGS_V2, TAGS_V3, TRAINING_TAGS
from seethrough.inference.composite import (
    DRAWING_ORDER,
    content_box,
    drawing_order,
    flatten,
    quantize,
)


def pixel(*rgba: int) -> np.ndarray:
    return np.array([[rgba]], np.uint8)


def test_two_half_transparent_layers_leave_a_quarter_of_the_ground():
    flat = flatten([pixel(255, 0, 0, 128), pixel(0, 0, 255, 128)], (1, 1))
    a = 128 / 255
    alpha = a + a * (1 - a)
    expected = [255 * a * (1 - a) / alpha, 0, 255 * a / alpha, 255 * alpha]
    assert flat.straight()[0, 0].tolist() == [round(value) for value in expected]


def test_an_opaque_layer_hides_everything():
    flat = flatten([pixel(9, 8, 7, 255), pixel(1, 2, 3, 200), pixel(30, 20, 10, 255)], (1, 1))
    assert flat.straight()[0, 0].tolist() == [30, 20, 10, 255]


def test_nothing_is_transparent_black():
    flat = flatten([pixel(50, 60, 70, 0)], (1, 1))
    assert flat.straight()[0, 0].tolist() == [0, 0, 0, 0]


def test_a_layer_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 4\).*\(2, 1, 4\)"):
        flatten([pixel(1, 2, 3, 4)], (2, 1))


images = arrays(np.uint8, (3, 4, 4))


@given(image=images)
def test_one_layer_stays_as_it_is_where_it_shows(image: np.ndarray):
    straight = flatten([image], (3, 4)).straight()
    shown = image[..., 3] > 0
    assert np.array_equal(straight[shown], image[shown])
    assert not straight[~shown].any()


@given(back=images, middle=images, front=images)
def test_flatten_follows_the_over_operator(back: np.ndarray, middle: np.ndarray, front: np.ndarray):
    color = np.zeros((3, 4, 3))
    alpha = np.zeros((3, 4, 1))
    for layer in (back, middle, front):
        a = layer[..., 3:] / 255
        color = layer[..., :3] / 255 * a + color * (1 - a)
        alpha = a + alpha * (1 - a)
    flat = flatten([back, middle, front], (3, 4))
    np.testing.assert_allclose(flat.color, color, atol=1e-6)
    np.testing.assert_allclose(flat.alpha[..., None], alpha, atol=1e-6)


@given(image=images, threshold=st.integers(0, 255))
def test_content_box_is_the_tightest(image: np.ndarray, threshold: int):
    box = content_box(image, threshold)
    solid = image[..., 3] > threshold
    if box is None:
        assert not solid.any()
        return
    left, top, right, bottom = box
    inside = solid[top:bottom, left:right]
    assert inside.sum() == solid.sum()
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_quantize_rounds_and_clips():
    values = np.array([-1.0, 0.4 / 255, 0.6 / 255, 127.5 / 255 + 1e-6, 2.0])
    assert quantize(values).tolist() == [0, 0, 1, 128, 255]


def test_the_default_order_places_every_tag_of_both_versions_once():
    assert sorted(DRAWING_ORDER) == sorted({*TAGS_V2, *TAGS_V3})


def test_drawing_order_sorts_and_leaves_the_head_out():
    assert drawing_order(TRAINING_TAGS) == [tag for tag in DRAWING_ORDER if tag in TAGS_V3]
    assert drawing_order(TAGS_V2) == [tag for tag in DRAWING_ORDER if tag in TAGS_V2]
    assert drawing_order(["face", "neck"], order=["face", "neck"]) == ["face", "neck"]
    with pytest.raises(ValueError, match="no place for cape"):
        drawing_order(["face", "cape"])
