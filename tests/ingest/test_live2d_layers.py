"""Layers of a pose: order, paths, clips, colours, merged pieces, groups."""

from pathlib import Path

import numpy as np
import pytest

from seethrough.characters.form import Provenance, flatten, read_character
from seethrough.characters.write import NewLayer, write_character
from seethrough.errors import InputError
from seethrough.ingest.live2d_core import Answer
from seethrough.ingest.live2d_layers import canvas_size, drawables, gather, layers
from seethrough.ingest.live2d_raster import make_texture
from tests.ingest.live2d_answer import HEIGHT, WIDTH, Group, Rectangle, answer

MOC = Path("a.moc3")
NAMES = {"PartFace": "顔"}
COLOR = (200, 100, 50, 255)
TEXTURE = make_texture(np.full((HEIGHT, WIDTH, 4), COLOR, np.uint8))
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8) | (0, 0, 0, 255)
"""Opaque straight RGBA, as large as the canvas."""


def made(said: Answer, merge: bool = True) -> tuple[list[NewLayer], list[str]]:
    """The layers of an answer, and what was lost."""
    canvas = canvas_size(said, 2048)
    found, notes = drawables(MOC, said, 0, NAMES, canvas)
    return list(layers(MOC, found, gather(found, merge), [TEXTURE], canvas)), notes


def names(found: list[NewLayer]) -> list[str]:
    return [layer.path[-1] for layer in found]


def test_a_drawable_becomes_a_layer_at_its_place():
    (layer,), notes = made(answer([Rectangle(id="A", box=(3, 4, 13, 9), part=1)]))
    # Units with y up have become pixels with y down.
    assert layer.corner == (3, 4) and layer.rgba.shape == (5, 10, 4)
    assert (layer.rgba == COLOR).all()
    assert layer.path == ("PartHead", "PartFace 顔", "A")
    assert notes == []


def test_the_texture_is_the_right_way_up():
    said = answer([Rectangle(id="A", box=(3, 4, 13, 9))])
    canvas = canvas_size(said, 2048)
    found, _ = drawables(MOC, said, 0, NAMES, canvas)
    texture = make_texture(NOISE.astype(np.uint8))
    (layer,) = layers(MOC, found, gather(found, merge=True), [texture], canvas)
    assert np.abs(layer.rgba.astype(int) - NOISE[4:9, 3:13]).max() <= 1


def test_layers_follow_the_render_order():
    rectangles = [
        Rectangle(id=name, box=(0, 0, 4, 4), order=order)
        for name, order in (("near", 2), ("far", 0), ("between", 1))
    ]
    assert names(made(answer(rectangles))[0]) == ["far", "between", "near"]


def test_the_canvas_is_the_models_own_or_smaller():
    said = answer([Rectangle(id="A", box=(0, 0, 4, 4))])
    assert canvas_size(said, 2048) == (WIDTH, HEIGHT)
    assert canvas_size(said, 20) == (20, 15)


def test_what_is_not_shown_is_left_out():
    rectangles = [
        Rectangle(id="shown", box=(0, 0, 4, 4)),
        Rectangle(id="hidden", box=(0, 0, 4, 4), visible=False),
        Rectangle(id="faint", box=(0, 0, 4, 4), opacity=0.004),
        Rectangle(id="empty", box=(0, 0, 4, 4), triangles=()),
        Rectangle(id="HitAreaHead", box=(0, 0, 4, 4)),
    ]
    assert names(made(answer(rectangles))[0]) == ["shown"]


@pytest.mark.parametrize("inverted", [False, True])
def test_clips_are_kept_as_relations_and_flatten_applies_them(tmp_path: Path, inverted: bool):
    clipped = Rectangle(
        id="iris", box=(0, 0, 10, 10), masks=(1, 2), flags=4 | (8 if inverted else 0)
    )
    white = Rectangle(id="white", box=(0, 0, 5, 10), visible=False, order=1)
    lower = Rectangle(id="lower", box=(0, 5, 10, 10), opacity=0, order=2)
    found, _ = made(answer([clipped, white, lower]))

    # The layer itself is whole; its masks are there, though they don't show.
    assert names(found) == ["iris", "white", "lower"]
    assert found[0].rgba[..., 3].all() and found[0].rgba.shape == (10, 10, 4)
    assert (found[0].clip, found[0].clip_inverted) == ((1, 2), inverted)
    assert [layer.visible for layer in found] == [True, False, False]

    folder = write_character(
        tmp_path,
        name="a",
        canvas=(WIDTH, HEIGHT),
        layers=found,
        provenance=Provenance(source="a", sha256="0" * 64, tool="t", version="1"),
    )
    shown = flatten(read_character(folder))[:10, :10, 3] > 0
    expected = np.zeros((10, 10), bool)
    expected[:, :5] = expected[5:] = True
    assert np.array_equal(shown, expected != inverted)


def test_multiply_and_screen_colours_change_the_pixels():
    item = Rectangle(
        id="A", box=(0, 0, 4, 4), multiply=(0.5, 1, 1, 1), screen=(0, 0, 0.5, 1), opacity=0.25
    )
    (layer,), _ = made(answer([item]))
    # Screen: 50 + 127.5 - 50 * 0.5.
    assert np.abs(layer.rgba.astype(float) - (100, 100, 152.5, 255)).max() <= 1
    # Its opacity stays apart.
    assert layer.opacity == 0.25


@pytest.mark.parametrize(
    ("blend", "flags", "expected"),
    [(0, 4, "normal"), (0, 5, "add"), (0, 6, "multiply"), (2, 4, "multiply"), (12, 4, "overlay")],
)
def test_blend_modes_get_the_forms_names(blend: int, flags: int, expected: str):
    (layer,), notes = made(answer([Rectangle(id="A", box=(0, 0, 4, 4), blend=blend, flags=flags)]))
    assert (layer.blend, notes) == (expected, [])


def test_a_blend_mode_that_the_form_lacks_is_told():
    glowing = Rectangle(id="A", box=(0, 0, 4, 4), blend=4)
    atop = Rectangle(id="B", box=(0, 0, 4, 4), blend=6 | 1 << 8)
    found, notes = made(answer([glowing, atop]))
    assert [layer.blend for layer in found] == ["add", "multiply"]
    assert notes == [
        "drawable A is blended by add with glow, and kept as add",
        "drawable B is blended by atop, and kept as multiply",
    ]


LEFT = Rectangle(id="left", box=(0, 0, 5, 10))
RIGHT = Rectangle(id="right", box=(5, 0, 12, 10))


def test_pieces_of_one_mesh_become_one_layer():
    between = Rectangle(id="glue", box=(0, 0, 1, 1), triangles=())
    found, _ = made(answer([LEFT, between, RIGHT]))
    assert names(found) == ["left"]
    assert found[0].corner == (0, 0)
    assert found[0].rgba.shape == (10, 12, 4) and (found[0].rgba == COLOR).all()
    assert names(made(answer([LEFT, between, RIGHT]), merge=False)[0]) == ["left", "right"]


@pytest.mark.parametrize(
    "other",
    [
        {"box": (5.2, 0, 12, 10)},
        {"part": 1},
        {"opacity": 0.5},
        {"blend": 2},
        {"masks": (0,)},
        {"box": LEFT.box},
    ],
)
def test_what_differs_or_has_its_own_place_on_the_texture_is_not_merged(other: dict):
    rectangle = Rectangle(**({"id": "right", "box": RIGHT.box} | other))
    assert names(made(answer([LEFT, rectangle]))[0]) == ["left", "right"]


def test_a_piece_that_clips_something_alone_is_not_merged():
    clipped = Rectangle(id="shine", box=(1, 1, 3, 3), masks=(0,))
    assert names(made(answer([LEFT, RIGHT, clipped]))[0]) == ["left", "right", "shine"]


def test_what_lies_in_a_part_made_for_skinning_is_merged():
    apart = Rectangle(id="right", box=(20, 0, 30, 10))
    parts = [("ArtMesh7_Skinning", -1)]
    assert names(made(answer([LEFT, apart], parts))[0]) == ["left"]
    assert names(made(answer([LEFT, apart]))[0]) == ["left", "right"]


def test_a_group_hands_its_colour_and_clip_to_its_drawables():
    mask = Rectangle(id="mask", box=(0, 0, 4, 4), part=1, visible=False)
    inside = Rectangle(id="A", box=(0, 0, 9, 9))
    parts = [("Group", -1), ("Apart", -1)]
    group = Group(masks=(0,), multiply=(0.5, 0.5, 0.5, 1))
    found, notes = made(answer([mask, inside], parts, [group]))
    layer = found[names(found).index("A")]
    assert layer.clip == (names(found).index("mask"),)
    assert np.abs(layer.rgba.astype(int) - (100, 50, 25, 255)).max() <= 1
    assert notes == []


def test_what_a_group_does_as_one_picture_is_told():
    inside = Rectangle(id="A", box=(0, 0, 9, 9), part=1)
    found, notes = made(answer([inside], groups=[Group(blend=6, opacity=0.5)]))
    assert (found[0].blend, found[0].opacity) == ("multiply", 0.5)
    assert notes == [
        "part PartFace lies in a group that is drawn as one in mode multiply; as one at opacity"
        " 0.50"
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"triangles": (0, 1, 9)}, "drawable A has impossible numbers"),
        ({"triangles": (0, 1)}, "drawable A has impossible numbers"),
        ({"masks": (7,)}, "drawable A has impossible numbers"),
        ({"part": 9}, "drawable A has impossible numbers"),
        ({"box": (0, 0, float("nan"), 4)}, "drawable A has impossible numbers"),
        ({"texture": 1}, "drawable A uses texture 1, but 1 are given"),
    ],
)
def test_impossible_numbers_are_named(wrong: dict, message: str):
    rectangle = Rectangle(**({"id": "A", "box": (0, 0, 4, 4)} | wrong))
    with pytest.raises(InputError, match=f"a.moc3: {message}"):
        made(answer([rectangle]))
