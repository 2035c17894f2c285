from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psd_tools import PSDImage

from seethrough.data.avatars import draw_character
from seethrough.data.tags import HEAD, TAGS_V3
from seethrough.inference.parts import (
    BEFORE_FACE,
    Part,
    cut_parts,
    layer_depths,
    order_parts,
)
from seethrough.inference.psd import write_parts

SIZE = (48, 64)
"""Height and width of the canvas."""


def rectangle(box: tuple[int, int, int, int], alpha: int = 255) -> np.ndarray:
    """A layer that is red in a box."""
    layer = np.zeros((*SIZE, 4), np.uint8)
    left, top, right, bottom = box
    layer[top:bottom, left:right] = (255, 0, 0, alpha)
    return layer


def level(depth: float) -> np.ndarray:
    return np.full(SIZE, depth, np.float32)


def part(tag: str, depth: float, name: str = "", left: int = 0) -> Part:
    """A part of 4 x 4 pixels."""
    return Part(
        name=name or tag,
        tag=tag,
        box=(left, 0, left + 4, 4),
        rgba=np.full((4, 4, 4), 255, np.uint8),
        depth=np.full((4, 4), depth, np.float32),
        depth_median=depth,
    )


def order(*parts: Part) -> list[str]:
    return [part.name for part in order_parts(parts)]


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Boxes of 5 pixels or more anywhere on the canvas."""
    height, width = SIZE
    left, top = draw(st.integers(0, width - 3)), draw(st.integers(0, height - 2))
    return left, top, draw(st.integers(left + 3, width)), draw(st.integers(top + 2, height))


@given(box=boxes(), seed=st.integers(0, 99))
def test_a_part_is_cut_to_its_box_wherever_it_lies(box: tuple[int, int, int, int], seed: int):
    depth = np.random.default_rng(seed).random(SIZE, np.float32)
    (found,) = cut_parts({"footwear": rectangle(box)}, {"footwear": depth})
    left, top, right, bottom = box
    assert found.box == box
    assert found.rgba.shape == (bottom - top, right - left, 4)
    assert np.array_equal(found.depth, depth[found.window])
    assert found.depth_median == np.median(depth[found.window])


def test_the_median_counts_every_solid_pixel_and_no_other():
    layer = rectangle((10, 10, 13, 13))
    layer[20, 20] = (0, 0, 0, 11)
    layer[15, 15] = (0, 0, 0, 10)
    depth = level(0.9)
    depth[10:13, 10:13] = np.arange(9, dtype=np.float32).reshape(3, 3) / 10
    depth[20, 20] = 0.05
    (found,) = cut_parts({"tail": layer}, {"tail": depth})
    assert found.box == (10, 10, 21, 21)
    assert found.depth_median == pytest.approx(0.35)
    solid = found.rgba[..., 3] > 10
    assert (found.depth[~solid] == 1).all()


def test_specks_empty_layers_and_the_head_are_no_parts():
    layers = {
        "tail": rectangle((3, 3, 5, 5)),
        "wings": np.zeros((*SIZE, 4), np.uint8),
        HEAD: rectangle((0, 0, 20, 20)),
        "face": rectangle((0, 0, 20, 20)),
    }
    parts = cut_parts(layers, {"face": level(0.5)})
    assert [found.tag for found in parts] == ["face"]


@pytest.mark.parametrize("depths", [{}, {"face": np.zeros((2, 2), np.float32)}])
def test_a_layer_without_its_depth_is_refused(depths: dict[str, np.ndarray]):
    with pytest.raises(ValueError, match=r"face: depth of shape \(48, 64\) expected"):
        cut_parts({"face": rectangle((0, 0, 20, 20))}, depths)


def test_a_depth_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="face: its depth is not a number"):
        cut_parts({"face": rectangle((0, 0, 20, 20))}, {"face": level(np.nan)})


def test_nose_and_mouth_take_their_colour_from_the_page():
    page = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    layers = {tag: rectangle((5, 5, 15, 15), alpha=99) for tag in ("face", "nose", "mouth")}
    depths = {tag: level(0.5) for tag in layers}
    for found in cut_parts(layers, depths, page):
        expected = np.full((10, 10, 3), (255, 0, 0)) if found.tag == "face" else page[found.window]
        assert np.array_equal(found.rgba[..., :3], expected)
        assert (found.rgba[..., 3] == 99).all()
    for found in cut_parts(layers, depths, page, page_colored=()):
        assert (found.rgba[..., :3] == (255, 0, 0)).all()


def test_layers_that_share_a_frame_have_its_depth_where_they_show():
    """Irides lie over the left half of the eyewhite."""
    layers = {"eyewhite": rectangle((0, 0, 20, 10)), "irides": rectangle((0, 0, 10, 10))}
    shared = level(0.8)
    shared[:, :10] = 0.2
    depths = layer_depths(layers, {"eyes": shared})
    assert np.array_equal(depths["irides"] < 1, layers["irides"][..., 3] > 0)
    assert (depths["irides"][:10, :10] == np.float32(0.2)).all()
    assert (depths["eyewhite"][:10, :20] == np.float32(0.8)).all()
    assert (depths["eyewhite"][10:] == 1).all()


def test_a_layer_that_is_wholly_covered_is_as_far_as_its_cover():
    layers = {tag: rectangle((0, 0, 10, 10)) for tag in ("eyewhite", "irides")}
    depths = layer_depths(layers, {"eyes": level(0.3)})
    assert (depths["eyewhite"][:10, :10] == np.float32(0.3)).all()
    assert order(*cut_parts(layers, depths)) == ["eyewhite", "irides"]


def test_a_frame_of_its_own_comes_first():
    layers = {"irides": rectangle((0, 0, 9, 9))}
    depths = layer_depths(layers, {"irides": level(0.1), "eyes": level(0.6)})
    assert (depths["irides"] == np.float32(0.1)).all()


def test_the_farthest_part_is_first():
    assert order(part("tail", 0.2), part("wings", 0.8), part("neck", 0.5)) == [
        "wings",
        "neck",
        "tail",
    ]


def test_features_behind_the_face_come_just_before_it_and_ears_just_behind():
    """The published rule, for split parts and the parts of the eye too."""
    parts = order_parts(
        [
            part("face", 0.4),
            part("nose", 0.6),
            part("mouth", 0.3),
            part("eyewhite", 0.4, "eyewhite-l"),
            part("ears", 0.2, "ears-r"),
            part("ears", 0.9, "ears-l"),
        ]
    )
    medians = {part.name: part.depth_median for part in parts}
    assert medians == pytest.approx(
        {
            "face": 0.4,
            "nose": 0.399,
            "mouth": 0.3,
            "eyewhite-l": 0.399,
            "ears-r": 0.401,
            "ears-l": 0.401,
        }
    )


def test_without_a_face_depth_alone_decides():
    assert order(part("ears", 0.1), part("nose", 0.9)) == ["nose", "ears"]


def test_an_eye_is_stacked_within_itself_and_not_across_the_face():
    """The left eye's white is wrongly near; the right eye stays as deep as it is."""
    parts = order_parts(
        [
            part("eyewhite", 0.1, "eyewhite-l"),
            part("irides", 0.3, "irides-l"),
            part("eyewhite", 0.3, "eyewhite-r", left=20),
            part("irides", 0.25, "irides-r", left=20),
        ]
    )
    names = [part.name for part in parts]
    assert names.index("eyewhite-l") < names.index("irides-l")
    assert {part.name: part.depth_median for part in parts}["irides-r"] == 0.25


depth_values = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(st.sampled_from(TAGS_V3), depth_values), unique_by=lambda pair: pair[0]))
def test_rules_hold_for_all_depths_and_nothing_is_lost(pairs: list[tuple[str, float]]):
    parts = order_parts(part(tag, depth) for tag, depth in pairs)
    names = [part.name for part in parts]
    assert sorted(names) == sorted(tag for tag, _ in pairs)
    medians = [part.depth_median for part in parts]
    assert medians == sorted(medians, reverse=True)
    assert all(0 <= median <= 1 for median in medians)

    def before(front: str, back: str) -> bool:
        if not {front, back} <= set(names):
            return True
        return names.index(front) > names.index(back)

    assert all(before(feature, "face") for feature in BEFORE_FACE)
    assert before("face", "ears")
    assert before("irides", "eyewhite") and before("eyelash", "irides")


@pytest.mark.parametrize("seed", range(3))
def test_true_layers_are_the_page_again(seed: int, tmp_path: Path):
    """At 40 dB or more in the PSD's flat picture, although nose and mouth have page colours."""
    character = draw_character(seed, "test", 192)
    layers = {layer.tag: layer.rgba for layer in character.layers}
    depths = {
        layer.tag: np.where(layer.depth > 0, 1 - layer.depth / np.float32(255), np.float32(1))
        for layer in character.layers
    }
    parts = order_parts(cut_parts(layers, depths, character.page))
    nearest = {layer.tag: int(layer.depth.max()) for layer in character.layers}
    assert [nearest[part.tag] for part in parts] == sorted(nearest.values())
    files = write_parts(tmp_path, "character", parts, (192, 192))
    flat = PSDImage.open(files.psd).topil()
    assert flat is not None
    values = np.asarray(flat) / 255
    alpha = values[..., 3:]
    shown = values[..., :3] * alpha + (1 - alpha) * character.background / 255
    error = np.mean((shown - character.page[..., :3] / 255) ** 2)
    assert -10 * np.log10(error) >= 40


def test_a_part_moved_by_a_rule_is_otherwise_as_it_was():
    nose = part("nose", 0.6)
    moved = order_parts([part("face", 0.4), nose])[-1]
    assert attrs.evolve(moved, depth_median=0.6).rgba is nose.rgba
    assert moved.depth is nose.depth
