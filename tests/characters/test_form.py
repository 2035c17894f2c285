"""The one form of a character: written, read, checked, drawn."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.characters.blend import BLEND_MODES, draw
from seethrough.characters.form import (
    Provenance,
    character_id,
    flatten,
    layer_ids,
    list_characters,
    read_character,
)
from seethrough.characters.write import NewLayer, write_character
from seethrough.errors import InputError

ART = Provenance(source="art.psd", sha256="ab" * 32, tool="test", version="1", licence="CC0")
RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)


def filled(color: tuple[int, ...], width: int = 4, height: int = 4) -> np.ndarray:
    return np.full((height, width, 4), color, np.uint8)


def layer(name: str, color: tuple[int, ...] = RED, **given: Any) -> NewLayer:
    given = {"corner": (0, 0), "rgba": filled(color)} | given
    return NewLayer(path=tuple(name.split("/")), **given)


def written(root: Path, *layers: NewLayer, name: str = "A", canvas=(4, 4), **given: Any) -> Path:
    return write_character(root, name=name, canvas=canvas, layers=layers, provenance=ART, **given)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    hair = np.zeros((6, 8, 4), np.uint8)
    hair[1:4, 2:7] = (200, 100, 50, 128)
    folder = written(
        tmp_path,
        layer("Face", GREEN),
        layer("Hair/前髪", corner=(-3, 5), rgba=hair, blend="multiply", opacity=0.5, clip=(0,)),
        layer("Hair/前髪", visible=False, clip_inverted=True, clip=(0, 1)),
        name="Ä 少女/x",
        canvas=(20, 30),
        picture=filled(BLUE, 20, 30),
    )
    character = read_character(folder)
    assert folder == tmp_path / character.id
    assert character.id == character_id("Ä 少女/x", ART.sha256) and character.id.startswith("a-x-")
    assert (character.name, character.canvas) == ("Ä 少女/x", (20, 30))
    assert character.provenance == ART
    face, hair_layer, hidden = character.layers
    assert [item.id for item in character.layers] == ["Face", "Hair/前髪#1", "Hair/前髪#2"]
    assert hair_layer.path == ("Hair", "前髪")
    assert hair_layer.box == (-1, 6, 4, 9), "cut to its pixels, and beyond the canvas at the left"
    assert (hair_layer.blend, hair_layer.opacity, hair_layer.clip) == ("multiply", 0.5, (0,))
    assert np.array_equal(hair_layer.rgba(), hair[1:4, 2:7])
    assert (face.visible, hidden.visible, hidden.clip_inverted) == (True, False, True)
    picture = character.picture()
    assert picture is not None and np.array_equal(picture, filled(BLUE, 20, 30))
    assert list_characters(tmp_path) == [folder]


def test_ids_never_meet_and_never_change() -> None:
    assert character_id("A", "12") == character_id("A", "12")
    ids = {
        character_id("A", "12"),
        character_id("A", "13"),
        character_id("A", "12", "smile"),
        character_id("B", "12"),
        character_id("少女", "12"),
    }
    assert len(ids) == 5
    assert character_id("少女", "12").startswith("character-")
    assert len(character_id("x" * 300, "12")) == 40 + 1 + 12


@given(st.lists(st.lists(st.sampled_from(["a", "b", "a/b", "a#1"]), min_size=1, max_size=2)))
def test_layer_ids_are_unique_whatever_the_names_are(paths: list[list[str]]) -> None:
    ids = layer_ids(paths)
    assert len(set(ids)) == len(paths)
    for path, name in zip(paths, ids, strict=True):
        assert name.startswith("/".join(path))


def test_the_same_again_stays_with_its_labels_and_another_content_is_refused(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path, layer("a"))
    (folder / "labels.json").write_text("{}")
    before = (folder / "character.json").stat().st_mtime_ns
    assert written(tmp_path, layer("a")) == folder
    assert (folder / "character.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another content"):
        written(tmp_path, layer("a", BLUE))
    assert (folder / "labels.json").exists() and read_character(folder).layers[0].rgba()[0, 0, 0]
    assert [item.name for item in tmp_path.iterdir()] == [folder.name], "nothing half is left"


def test_layers_without_a_pixel_are_left_out_and_clips_follow(tmp_path: Path) -> None:
    empty = np.zeros((0, 0, 4), np.uint8)
    folder = written(
        tmp_path,
        layer("nothing", rgba=empty),
        layer("base", GREEN, rgba=filled(GREEN, 2, 4)),
        layer("transparent", (9, 9, 9, 0)),
        layer("clipped", RED, clip=(1,)),
        layer("clipped to nothing", BLUE, clip=(2,)),
    )
    character = read_character(folder)
    names = [item.path[-1] for item in character.layers]
    assert names == ["base", "transparent", "clipped", "clipped to nothing"]
    assert [item.clip for item in character.layers] == [(), (), (0,), (1,)]
    assert flatten(character)[0].tolist() == [list(RED), list(RED), [0] * 4, [0] * 4]
    with pytest.raises(InputError, match="no layer has a pixel"):
        written(tmp_path, layer("nothing", rgba=empty), name="B")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("form", 2, "form is 2, this version reads 1"),
        ("id", "other", "id is 'other', but the folder is named"),
        ("canvas", [0, 4], "canvas is"),
        ("canvas", [4.5, 4], r"canvas\[0\]"),
        ("name", 3, r"expected str.*character\.name"),
        ("colour", 3, "colour"),
        ("layers.0.box", [0, 0, 3, 4], r"layers\[0\].*4 x 4 px, but 3 x 4 are expected"),
        ("layers.0.box", [0, 0, 0, 4], r"layers\[0\].box"),
        ("layers.0.file", "layers/../../x.png", r"layers\[0\].file"),
        ("layers.0.file", "layers/0007.png", "0007.png can't be read"),
        ("layers.0.file", "layers/0001.png", "as another layer's"),
        ("layers.0.path", [], r"layers\[0\].path is empty"),
        ("layers.0.blend", "glow", "none of normal, multiply"),
        ("layers.0.opacity", 1.5, "opacity is 1.5"),
        ("layers.0.opacity", True, r"expected float @ character.layers\[0\].opacity"),
        ("layers.0.clip", [0], "clip is"),
        ("layers.0.clip", [2], "clip is"),
        ("layers.0.visible", 1, r"expected bool @ character.layers\[0\].visible"),
    ],
)
def test_an_impossible_index_is_named(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    folder = written(tmp_path, layer("a"), layer("b"))
    index = json.loads((folder / "character.json").read_text())
    target = index
    *way, last = field.split(".")
    for step in way:
        target = target[int(step) if step.isdigit() else step]
    target[last] = value
    (folder / "character.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message) as caught:
        read_character(folder)
    assert str(folder / "character.json") in str(caught.value)


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path, layer("a"))
    png = folder / "layers" / "0000.png"
    png.write_bytes(png.read_bytes()[:40])
    with pytest.raises(InputError, match=r"0000.png: expected straight RGBA of 4 x 4"):
        read_character(folder).layers[0].rgba()
    png.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0000.png is no PNG"):
        read_character(folder)
    (folder / "character.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_character(folder)
    with pytest.raises(InputError, match=r"missing.*character.json: can't be read"):
        read_character(tmp_path / "missing")
    with pytest.raises(InputError, match="no folder of characters"):
        list_characters(tmp_path / "missing")


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path, layer("a"))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        written(tmp_path, layer("a"), name="B")
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == [folder.name]


def test_two_halves_over_each_other_cover_three_quarters(tmp_path: Path) -> None:
    half = 128 / 255
    folder = written(tmp_path, layer("a", (255, 0, 0, 128)), layer("b", BLUE, opacity=half))
    alpha = half + half * (1 - half)
    expected = [(1 - half) * half / alpha, 0, half / alpha, alpha]
    pixel = flatten(read_character(folder))[1, 1]
    assert np.abs(pixel / 255 - expected).max() <= 0.5 / 255 + 1e-6


def test_clips_are_a_union_inverted_or_not_and_may_be_hidden(tmp_path: Path) -> None:
    left, right = layer("left", rgba=filled(GREEN, 2, 4)), layer("right", rgba=filled(GREEN, 1, 4))
    masks = (
        attrs.evolve(left, visible=False, opacity=0.3),
        attrs.evolve(right, visible=False, corner=(3, 0)),
    )

    def alpha(**given: Any) -> list[int]:
        folder = written(tmp_path, *masks, layer("top", **given), name=str(sorted(given.items())))
        return flatten(read_character(folder))[0, :, 3].tolist()

    assert alpha(clip=(0, 1)) == [255, 255, 0, 255]
    assert alpha(clip=(0, 1), clip_inverted=True) == [0, 0, 255, 0]
    assert alpha(clip=(1,)) == [0, 0, 0, 255]
    assert alpha() == [255] * 4


def test_what_lies_atop_mixes_with_its_base_alone(tmp_path: Path) -> None:
    """Of red at half alpha, painted over with blue at half opacity: half of it is blue, no more."""
    folder = written(
        tmp_path,
        layer("ground", GREEN),
        layer("base", (255, 0, 0, 128), opacity=0.5),
        layer("top", BLUE, clip=(1,), atop=True, opacity=0.25, corner=(2, 0)),
    )
    left, right = flatten(read_character(folder))[0, [0, 3]]
    alpha = 128 / 255 / 2
    assert left.tolist() == [round(255 * alpha), round(255 * (1 - alpha)), 0, 255]
    assert right.tolist() == [round(127.5 * alpha), left[1], round(127.5 * alpha), 255]
    with pytest.raises(InputError, match=r"layers\[1\].atop is true"):
        written(tmp_path, layer("base"), layer("top", atop=True), name="B")


def test_boxes_may_leave_the_canvas(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        layer("corner", RED, corner=(-2, -3)),
        layer("outside", BLUE, corner=(40, 0)),
        layer("clipped", GREEN, corner=(1, 0), clip=(0,)),
    )
    flat = flatten(read_character(folder))
    assert flat.shape == (4, 4, 4)
    assert flat[0].tolist() == [list(RED), list(GREEN), [0] * 4, [0] * 4]
    assert not flat[1:].any()


WHITE_IS_NEUTRAL = {"multiply", "darken", "color-burn", "divide", "linear-burn", "darker-color"}
BLACK_IS_NEUTRAL = {
    *("screen", "lighten", "color-dodge", "difference", "exclusion", "add", "subtract"),
    "lighter-color",
}


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_every_mode_leaves_what_its_neutral_colour_leaves(mode: str) -> None:
    backdrop = np.random.default_rng(0).random((5, 5, 3), np.float32)
    if mode in WHITE_IS_NEUTRAL | BLACK_IS_NEUTRAL:
        source = np.full_like(backdrop, mode in WHITE_IS_NEUTRAL)
        assert np.allclose(BLEND_MODES[mode](backdrop, source), backdrop, atol=1e-6)
    elif mode in ("hard-light", "overlay", "soft-light", "linear-light", "vivid-light"):
        gray = np.full_like(backdrop, 0.5)
        swapped = (gray, backdrop) if mode == "overlay" else (backdrop, gray)
        assert np.allclose(BLEND_MODES[mode](*swapped), backdrop, atol=1e-6)
    elif mode in ("hue", "saturation", "color", "luminosity"):
        assert np.allclose(BLEND_MODES[mode](backdrop, backdrop), backdrop, atol=1e-5)
    else:
        assert mode in ("normal", "pin-light", "hard-mix")


@pytest.mark.parametrize(
    ("mode", "backdrop", "source", "expected"),
    [
        ("normal", 0.2, 0.6, 0.6),
        ("multiply", 0.2, 0.6, 0.12),
        ("screen", 0.2, 0.6, 0.68),
        ("overlay", 0.2, 0.6, 0.24),
        ("overlay", 0.8, 0.6, 0.84),
        ("hard-light", 0.2, 0.6, 0.36),
        ("soft-light", 0.2, 0.6, 0.2 + 0.2 * (((16 * 0.2 - 12) * 0.2 + 4) * 0.2 - 0.2)),
        ("soft-light", 0.64, 0.6, 0.64 + 0.2 * (0.8 - 0.64)),
        ("soft-light", 0.5, 0.25, 0.375),
        ("darken", 0.2, 0.6, 0.2),
        ("lighten", 0.2, 0.6, 0.6),
        ("color-dodge", 0.2, 0.6, 0.5),
        ("color-dodge", 0.0, 1.0, 0.0),
        ("color-dodge", 0.1, 1.0, 1.0),
        ("color-burn", 0.8, 0.5, 0.6),
        ("color-burn", 1.0, 0.0, 1.0),
        ("color-burn", 0.9, 0.0, 0.0),
        ("difference", 0.2, 0.6, 0.4),
        ("exclusion", 0.2, 0.6, 0.56),
        ("add", 0.6, 0.6, 1.0),
        ("subtract", 0.6, 0.2, 0.4),
        ("divide", 0.3, 0.6, 0.5),
        ("linear-burn", 0.6, 0.7, 0.3),
        ("linear-light", 0.2, 0.6, 0.4),
        ("vivid-light", 0.2, 0.75, 0.4),
        ("vivid-light", 0.8, 0.25, 0.6),
        ("pin-light", 0.2, 0.75, 0.5),
        ("pin-light", 0.8, 0.25, 0.5),
        ("hard-mix", 0.6, 0.4, 1.0),
        ("hard-mix", 0.5, 0.4, 0.0),
    ],
)
def test_modes_by_their_formulas(
    mode: str, backdrop: float, source: float, expected: float
) -> None:
    color = np.full((1, 1, 3), backdrop, np.float32)
    alpha = np.ones((1, 1), np.float32)
    draw(color, alpha, np.full((1, 1, 3), source, np.float32), np.ones((1, 1), np.float32), mode)
    assert color.ravel() == pytest.approx(expected, abs=1e-5) and alpha[0, 0] == 1


def test_colour_modes_take_each_their_part() -> None:
    backdrop = np.array([[0.2, 0.4, 0.6]], np.float32)
    source = np.array([[0.9, 0.3, 0.1]], np.float32)

    def luma(color: np.ndarray) -> float:
        return float(color[0] @ [0.3, 0.59, 0.11])

    for mode in ("hue", "saturation", "color"):
        assert luma(BLEND_MODES[mode](backdrop, source)) == pytest.approx(luma(backdrop), abs=1e-5)
    shown = BLEND_MODES["luminosity"](backdrop, source)
    assert luma(shown) == pytest.approx(luma(source), abs=1e-5)
    assert np.argsort(shown[0]).tolist() == [0, 1, 2], "the backdrop's hue"
    assert np.argmax(BLEND_MODES["color"](backdrop, source)) == 0, "the source's hue"
    assert np.array_equal(BLEND_MODES["darker-color"](backdrop, source), backdrop)


@given(
    mode=st.sampled_from(sorted(BLEND_MODES)),
    values=st.lists(st.integers(0, 255), min_size=8, max_size=8),
)
def test_what_is_drawn_stays_a_picture(mode: str, values: list[int]) -> None:
    """Colour lies within alpha, alpha is "over", and a transparent canvas shows the source."""
    numbers = np.array(values) / np.float32(255)
    alpha, source_alpha = numbers[3:4].copy(), numbers[7:8]
    color, source = (numbers[:3] * alpha)[None], numbers[None, 4:7]
    behind = float(alpha[0])
    draw(color, alpha, source, source_alpha, mode)
    assert alpha[0] == pytest.approx(behind + source_alpha[0] - behind * source_alpha[0], abs=1e-5)
    assert color.min() >= -1e-5 and (color <= alpha + 1e-5).all()
    if behind == 0:
        assert color == pytest.approx(source * source_alpha, abs=1e-5)
    if source_alpha[0] == 0:
        assert color == pytest.approx(numbers[None, :3] * behind, abs=1e-5)
