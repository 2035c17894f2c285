"""OpenRaster files."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.characters.form import flatten
from tests.ingest.command import (
    HEIGHT,
    WIDTH,
    Image8,
    block,
    ellipse,
    ingest,
    ingested,
    own_agreement,
)


def png(rgba: Image8) -> bytes:
    file = BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    return file.getvalue()


def write(path: Path, stack: str, members: dict[str, bytes], size=(WIDTH, HEIGHT)) -> Path:
    """Write an archive whose stack.xml holds `stack`, the front first."""
    xml = f'<image version="0.0.1" w="{size[0]}" h="{size[1]}"><stack>{stack}</stack></image>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mimetype", "image/openraster")
        file.writestr("stack.xml", xml)
        for name, content in members.items():
            file.writestr(name, content)
    return path


def over(color: np.ndarray, rgba: Image8, corner: tuple[int, int]) -> None:
    """Draw over an opaque picture, (h, w, 3) float, in place."""
    x, y = corner
    window = color[y : y + rgba.shape[0], x : x + rgba.shape[1]]
    alpha = rgba[..., 3:] / 255
    window[:] = window * (1 - alpha) + rgba[..., :3] * alpha


def test_groups_order_modes_and_places(tmp_path: Path) -> None:
    ground, face, shade = (
        block((200, 210, 220), WIDTH, HEIGHT),
        ellipse((220, 180, 160)),
        ellipse((90, 60, 60)),
    )
    expected = ground[..., :3].astype(float)
    over(expected, face, (4, 5))
    multiplied = shade.copy()
    multiplied[..., :3] = np.rint(shade[..., :3] * expected[8:24, 10:30] / 255)
    over(expected, multiplied, (10, 8))
    merged = np.dstack([np.rint(expected).astype(np.uint8), ground[..., 3]])
    stack = """
        <layer name="hidden" src="data/ground.png" visibility="hidden"/>
        <stack name="頭">
          <layer name="shade" src="data/shade.png" x="10" y="8" composite-op="svg:multiply"/>
          <layer name="face" src="data/face.png" x="4" y="5"/>
        </stack>
        <layer name="ground" src="data/ground.png"/>"""
    members = {
        "data/ground.png": png(ground),
        "data/face.png": png(face),
        "data/shade.png": png(shade),
        "mergedimage.png": png(merged),
    }
    character = ingested(tmp_path / "out", write(tmp_path / "a.ora", stack, members))
    assert [layer.id for layer in character.layers] == ["ground", "頭/face", "頭/shade", "hidden"]
    assert [layer.visible for layer in character.layers] == [True, True, True, False]
    assert character.layers[2].blend == "multiply"
    assert own_agreement(character).largest <= 1


def test_atop_is_a_clip_to_what_lies_below(tmp_path: Path) -> None:
    stack = """
        <layer name="shade" src="s.png" x="2" composite-op="svg:src-atop"/>
        <layer name="base" src="b.png" opacity="0.5"/>"""
    members = {"s.png": png(block((0, 0, 255), 4, 4)), "b.png": png(block((255, 0, 0), 4, 4))}
    character = ingested(tmp_path / "out", write(tmp_path / "a.ora", stack, members, (8, 4)))
    base, shade = character.layers
    assert (base.opacity, shade.clip) == (0.5, (0,))
    assert flatten(character)[0, :, 3].tolist()[4:] == [0] * 4


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../x.png", "..\\x.png"])
def test_paths_that_leave_the_archive_are_refused(tmp_path: Path, capsys, name: str) -> None:
    source = write(tmp_path / "a.ora", f'<layer name="x" src="{name}"/>', {})
    assert ingest(tmp_path / "out", source) == 1
    assert "lies outside of it" in capsys.readouterr().err


def test_bombs_are_refused(tmp_path: Path, capsys) -> None:
    layer = '<layer name="x" src="x.png"/>'
    zeros = bytes(9_000_000)
    write(tmp_path / "zip.ora", layer, {"x.png": zeros})
    write(tmp_path / "canvas.ora", layer, {"x.png": png(block((1, 2, 3)))}, (99_999, 99_999))
    large = Image.new("RGBA", (1100, 1100))
    file = BytesIO()
    large.save(file, "PNG")
    write(tmp_path / "layer.ora", layer, {"x.png": file.getvalue()})
    with zipfile.ZipFile(tmp_path / "entities.ora", "w") as archive:
        archive.writestr(
            "stack.xml", '<!DOCTYPE x [<!ENTITY a "b">]><image w="1" h="1">&a;</image>'
        )
    assert ingest(tmp_path / "out", tmp_path, "--max_megapixels=1") == 1
    told = capsys.readouterr().err
    assert "zip.ora: x.png would unpack to 9000000 bytes" in told
    assert "canvas.ora: its canvas has 99999 x 99999 pixels" in told
    assert "layer.ora: layer 'x.png' has 1100 x 1100 pixels" in told
    assert "entities.ora: stack.xml declares entities" in told


def test_what_is_broken_or_missing_is_named(tmp_path: Path, capsys) -> None:
    layer = '<layer name="x" src="x.png"/>'
    write(tmp_path / "absent.ora", layer, {})
    write(tmp_path / "broken.ora", layer, {"x.png": png(block((1, 2, 3)))[:60]})
    write(tmp_path / "number.ora", '<layer src="x.png" opacity="2"/>', {"x.png": b""})
    write(tmp_path / "xml.ora", "<layer", {})
    (tmp_path / "text.ora").write_text("no archive")
    whole = write(tmp_path / "whole.ora", layer, {"x.png": png(block((1, 2, 3)))}).read_bytes()
    (tmp_path / "cut.ora").write_bytes(whole[: len(whole) // 2])
    assert ingest(tmp_path / "out", tmp_path) == 1
    told = capsys.readouterr()
    assert "made 1, there already 0, failed 6" in told.out
    for text in (
        "absent.ora: has no x.png",
        "x.png: broken",
        "number.ora: opacity='2' in stack.xml is not within 0 and 1",
        "xml.ora: stack.xml is no XML",
        "text.ora: no archive",
        "cut.ora: no archive",
    ):
        assert text in told.err
