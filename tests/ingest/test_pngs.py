"""Folders of PNGs, with and without a list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.characters.form import flatten, list_characters
from tests.ingest.command import HEIGHT, WIDTH, Image8, block, ellipse, ingest, ingested


def save(path: Path, rgba: Image8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(path)
    return path


def whole(color: tuple[int, ...]) -> Image8:
    """As large as the canvas, with a block at 5, 6."""
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[6:16, 5:15] = block(color, 10, 10)
    return rgba


def test_names_say_order_groups_and_places(tmp_path: Path) -> None:
    folder = tmp_path / "少女"
    save(folder / "2 face.png", whole((200, 0, 0)))
    save(folder / "10 Hair" / "front@-3,4.png", ellipse((0, 200, 0)))
    save(folder / "1 body.png", whole((0, 0, 200)))
    character = ingested(tmp_path / "out", folder)
    assert (character.name, character.canvas) == ("少女", (WIDTH, HEIGHT))
    assert [layer.path for layer in character.layers] == [
        ("1 body",),
        ("2 face",),
        ("10 Hair", "front"),
    ]
    assert character.layers[0].box == (5, 6, 15, 16)
    assert character.layers[2].box[0] < 0
    assert flatten(character)[6, 14].tolist() == [200, 0, 0, 255]


def test_a_list_says_everything(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    save(folder / "a.png", block((200, 0, 0), 8, 8))
    save(folder / "sub" / "b.png", block((0, 0, 200), 8, 8))
    save(folder / "picture.png", whole((1, 2, 3)))
    entries = [
        {"file": "a.png", "corner": [2, 3], "visible": False},
        {
            "file": "sub/b.png",
            "path": ["Head", "Shade"],
            "corner": [4, 4],
            "blend": "multiply",
            "opacity": 0.25,
            "clip": [0],
            "clip_inverted": True,
        },
        {"file": "a.png", "corner": [20, 20]},
    ]
    (folder / "layers.json").write_text(json.dumps({"name": "A", "layers": entries}))
    # Found below a folder, too: it says what it is.
    character = ingested(tmp_path / "out", tmp_path)
    first, second, third = character.layers
    assert (character.name, character.canvas) == ("A", (WIDTH, HEIGHT))
    assert (first.box, first.visible) == ((2, 3, 10, 11), False)
    assert (second.path, second.blend, second.opacity) == (("Head", "Shade"), "multiply", 0.25)
    assert (second.clip, second.clip_inverted) == ((0,), True)
    assert third.box == (20, 20, 28, 28)


def test_pngs_below_a_folder_are_no_character_unless_named(tmp_path: Path, capsys) -> None:
    save(tmp_path / "art" / "textures" / "a.png", whole((200, 0, 0)))
    (tmp_path / "art" / "layers").mkdir()
    assert ingest(tmp_path / "out", tmp_path / "art" / "layers") == 1
    assert "is and holds nothing of a kind that is read" in capsys.readouterr().err
    assert ingest(tmp_path / "out", tmp_path / "art" / "textures") == 0
    assert len(list_characters(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "../secret.png"}, "lies outside of the folder"),
        ({"file": "/etc/hostname"}, "lies outside of the folder"),
        ({"file": "link.png"}, "lies outside of the folder"),
        ({"file": "none.png"}, "there is no such file"),
        ({"file": "a.png", "blend": "glow"}, "layers[0].blend is 'glow'"),
        ({"file": "a.png", "opacity": 2}, "layers[0].opacity is 2.0"),
        ({"file": "a.png", "clip": [0]}, "layers[0].clip is [0]"),
        ({"file": "a.png", "colour": 1}, "colour"),
        ({}, "file"),
        ({"file": "a.png", "corner": [1, 2]}, "nothing says how large the canvas is"),
        ({"file": "text.png"}, "no picture that can be read"),
    ],
)
def test_a_bad_list_is_named(tmp_path: Path, capsys, entry: dict, message: str) -> None:
    folder = tmp_path / "art"
    save(folder / "a.png", whole((200, 0, 0)))
    (folder / "text.png").write_text("no picture")
    (folder / "link.png").symlink_to(save(tmp_path / "secret.png", whole((9, 9, 9))))
    (folder / "layers.json").write_text(json.dumps({"layers": [entry]}))
    assert ingest(tmp_path / "out", folder) == 1
    told = capsys.readouterr().err
    assert str(folder) in told and message in told


def test_sizes_that_disagree_are_named(tmp_path: Path, capsys) -> None:
    save(tmp_path / "art" / "a.png", whole((200, 0, 0)))
    save(tmp_path / "art" / "b.png", block((200, 0, 0)))
    assert ingest(tmp_path / "out", tmp_path / "art") == 1
    assert "b.png 20 x 16; layers without a corner" in capsys.readouterr().err
