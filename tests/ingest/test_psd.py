"""Layered PSDs and PSBs, written by psd-tools, and as the product writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode, ColorMode, Tag

from seethrough.characters.form import flatten
from seethrough.inference.composite import Placed, flatten_placed
from seethrough.inference.psd import write_psd
from seethrough.ingest.psd import BLENDS
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


def document(mode: str = "RGBA", depth: Literal[8, 16] = 8) -> PSDImage:
    """An empty document."""
    return PSDImage.new(mode, (WIDTH, HEIGHT), depth=depth)


def with_ground() -> PSDImage:
    """A document with an opaque layer: psd-tools draws its flat picture without alpha."""
    psd = document()
    add(psd, "ground", block((180, 140, 100), WIDTH, HEIGHT))
    return psd


def save(psd: PSDImage, path: Path) -> None:
    """Write a document with a flat picture on white, drawn by psd-tools.

    In a document without alpha psd-tools would turn the layers' alpha into masks, so it becomes
    one only now.
    """
    if psd.channels == 4 and psd.color_mode == ColorMode.RGB:
        psd._record.header.channels = 3
        psd.background_color = 1.0
    psd.save(path)


def named(layer, name: str):
    """A layer's Unicode name; psd-tools writes none that its old name, in MacRoman, can't hold."""
    layer._record.tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, name)
    return layer


def add(parent, name: str, rgba: Image8, corner: tuple[int, int] = (0, 0), **given):
    image = Image.fromarray(rgba)
    layer = parent.create_pixel_layer(image, left=corner[0], top=corner[1], **given)
    return named(layer, name)


def test_groups_opacity_names_hidden_layers_and_places(tmp_path: Path) -> None:
    psd = document()
    add(psd, "背景", block((240, 240, 255), WIDTH, HEIGHT))
    hair = named(psd.create_group(), "Hair")
    add(hair, "Fringe", ellipse((120, 60, 20)), (-5, 3))
    inner = named(hair.create_group(), "Ahoge ✨")
    add(inner, "Ahoge", ellipse((200, 30, 90)), (12, 10), opacity=128)
    hidden = add(psd, "Guide", block((255, 0, 0)))
    hidden.visible = False
    save(psd, tmp_path / "少女.psd")
    character = ingested(tmp_path / "out", tmp_path / "少女.psd", "--licence=CC BY 4.0")
    assert [layer.id for layer in character.layers] == [
        "背景",
        "Hair/Fringe",
        "Hair/Ahoge ✨/Ahoge",
        "Guide",
    ]
    assert (character.name, character.canvas) == ("少女", (WIDTH, HEIGHT))
    fringe, ahoge, guide = character.layers[1:]
    assert fringe.box[0] < 0, "what reaches beyond the canvas is kept"
    assert ahoge.opacity == pytest.approx(128 / 255)
    assert not guide.visible and fringe.visible
    assert own_agreement(character).largest <= 1
    provenance = character.provenance
    assert (provenance.tool, provenance.licence) == ("psd-tools", "CC BY 4.0")
    assert (provenance.source, len(provenance.sha256)) == ("少女.psd", 64)


@pytest.mark.parametrize("mode", [mode for mode in BLENDS if mode != BlendMode.NORMAL])
def test_each_blend_mode_agrees_with_the_files_own_picture(tmp_path: Path, mode) -> None:
    psd = with_ground()
    add(psd, "under", ellipse((30, 120, 200)), (2, 4))
    add(psd, "over", ellipse((150, 70, 20)), (10, 8), blend_mode=mode, opacity=200)
    save(psd, tmp_path / "a.psd")
    character = ingested(tmp_path / "out", tmp_path / "a.psd")
    assert character.layers[2].blend == BLENDS[mode]
    assert own_agreement(character).largest <= 1


def test_clipped_layers_are_painted_onto_their_base_and_hidden_with_it(tmp_path: Path) -> None:
    psd = with_ground()
    add(psd, "base", ellipse((200, 80, 80)), (4, 4), opacity=153)
    multiplied = add(psd, "shade", ellipse((60, 60, 120)), (8, 8), blend_mode=BlendMode.MULTIPLY)
    multiplied.clipping = True
    add(psd, "light", ellipse((90, 90, 20)), (0, 0), opacity=128).clipping = True
    hidden = add(psd, "hidden base", block((0, 255, 0)), (20, 10))
    hidden.visible = False
    add(psd, "on hidden", block((0, 0, 255)), (20, 10)).clipping = True
    save(psd, tmp_path / "a.psd")
    character = ingested(tmp_path / "out", tmp_path / "a.psd")
    assert [layer.clip for layer in character.layers] == [(), (), (1,), (1,), (), (4,)]
    assert [layer.visible for layer in character.layers] == [True] * 4 + [False] * 2
    assert [layer.atop for layer in character.layers] == [False, False, True, True, False, True]
    assert character.layers[2].opacity == pytest.approx(0.6), "thinned with its base"
    assert own_agreement(character).psnr > 50


def test_masks_go_into_alpha(tmp_path: Path) -> None:
    psd = with_ground()
    mask = Image.fromarray(np.tile(np.linspace(0, 255, 10).astype(np.uint8), (8, 1)))
    layer = add(psd, "masked", block((10, 200, 60)), (5, 5))
    layer.create_mask(mask, left=8, top=6)
    unused = add(psd, "unused mask", block((0, 0, 0), 4, 4))
    unused.create_mask(Image.new("L", (4, 4), 0)).disabled = True
    save(psd, tmp_path / "a.psd")
    character = ingested(tmp_path / "out", tmp_path / "a.psd")
    assert own_agreement(character).largest <= 1
    _, masked, unmasked = character.layers
    assert masked.box == (9, 6, 18, 14), "cut to where the mask leaves something"
    assert masked.rgba()[0, :, 3].tolist() == [28, 56, 85, 113, 141, 170, 198, 226, 255]
    assert unmasked.rgba()[..., 3].all()


@pytest.mark.parametrize(("mode", "depth"), [("RGBA", 16), ("L", 8), ("CMYK", 8)])
def test_other_colours_are_converted_and_told(tmp_path: Path, capsys, mode, depth) -> None:
    psd = document(mode, depth=depth)
    gray = Image.new(mode.strip("A"), (10, 10), 90 if mode == "L" else (90,) * len(mode.strip("A")))
    psd.create_pixel_layer(gray, name="a")
    save(psd, tmp_path / "a.psd")
    character = ingested(tmp_path / "out", tmp_path / "a.psd")
    assert "converted to RGB of 8 bit" in capsys.readouterr().out
    pixel = character.layers[0].rgba()[5, 5].tolist()
    if mode == "CMYK":
        assert pixel[3] == 255 and max(pixel[:3]) - min(pixel[:3]) <= 30
    else:
        assert pixel == [90, 90, 90, 255]


def test_what_the_product_writes_comes_back(tmp_path: Path) -> None:
    parts = [
        Placed(name="back hair", box=(3, 2, 23, 18), rgba=ellipse((120, 60, 20))),
        Placed(name="face", box=(10, 6, 30, 22), rgba=ellipse((230, 190, 170))),
        Placed(name="前髪", box=(6, 0, 26, 16), rgba=ellipse((150, 80, 30))),
    ]
    write_psd(tmp_path / "page.psd", parts, (HEIGHT, WIDTH))
    character = ingested(tmp_path / "out", tmp_path / "page.psd")
    assert [layer.path for layer in character.layers] == [(part.name,) for part in parts]
    for layer, part in zip(character.layers, parts, strict=True):
        left, top, right, bottom = layer.box
        x, y = part.box[:2]
        cut = part.rgba[top - y : bottom - y, left - x : right - x]
        assert np.array_equal(layer.rgba(), cut)
        assert np.count_nonzero(cut[..., 3]) == np.count_nonzero(part.rgba[..., 3])
    expected = flatten_placed(parts, (HEIGHT, WIDTH)).straight()
    assert np.abs(flatten(character).astype(int) - expected).max() <= 1
    assert own_agreement(character).largest <= 2, "the flat picture is stored on white"


def test_psb_too(tmp_path: Path) -> None:
    psd = document()
    psd._record.header.version = 2
    add(psd, "ground", block((180, 140, 100), WIDTH, HEIGHT))
    add(psd, "a", ellipse((20, 100, 220)), (3, 3))
    save(psd, tmp_path / "a.psb")
    assert own_agreement(ingested(tmp_path / "out", tmp_path / "a.psb")).largest <= 1


def test_zero_sized_layers_and_effects_are_told(tmp_path: Path, capsys) -> None:
    psd = document()
    add(psd, "a", ellipse((20, 100, 220)), (3, 3))
    add(psd, "nothing", np.zeros((4, 4, 4), np.uint8))
    save(psd, tmp_path / "a.psd")
    assert len(ingested(tmp_path / "out", tmp_path / "a.psd").layers) == 1
    assert "nothing: has no pixel and is left out" in capsys.readouterr().out


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path: Path, capsys) -> None:
    good = document()
    add(good, "a", ellipse((20, 100, 220)))
    add(good, "b", ellipse((20, 100, 220)))
    save(good, tmp_path / "good.psd")
    content = (tmp_path / "good.psd").read_bytes()
    (tmp_path / "cut.psd").write_bytes(content[:200])
    (tmp_path / "text.psd").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    PSDImage.frompil(Image.new("RGB", (8, 8))).save(tmp_path / "flat.psd")
    assert ingest(tmp_path / "out", tmp_path) == 1
    told = capsys.readouterr()
    assert "made 1, there already 0, failed 3" in told.out
    for name, reason in (("cut", "no PSD that can"), ("text", "no PSD that can"), ("flat", "flat")):
        assert any(f"{name}.psd: " in line and reason in line for line in told.err.splitlines())


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, capsys) -> None:
    psd = document()
    layer = add(psd, "small", ellipse((20, 100, 220)))
    for name in "abc":
        add(psd, name, ellipse((20, 100, 220)))
    save(psd, tmp_path / "many.psd")
    layer._record.right, layer._record.bottom = 200_000, 150_000
    with (tmp_path / "large layer.psd").open("wb") as file:
        psd._record.write(file)
    layer._record.right, layer._record.bottom = 20, 16
    psd._record.header.width = psd._record.header.height = 30_000
    with (tmp_path / "large.psd").open("wb") as file:
        psd._record.write(file)
    assert ingest(tmp_path / "out", tmp_path, "--max_layers=3") == 1
    told = capsys.readouterr().err
    assert "many.psd: has 4 layers, at most 3 are read" in told
    assert "large.psd: its canvas has 30000 x 30000 pixels, at most 100 million" in told
    assert ingest(tmp_path / "out", tmp_path / "large layer.psd") == 1
    assert "layer 'small' has 200000 x 150000 pixels" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*")) == [tmp_path / "out" / ".lock"]
