"""Krita files, written here as their format is described."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.errors import InputError
from seethrough.ingest.krita import _unpack, _unpack_lzf
from tests.ingest.command import Image8, ellipse, ingest, ingested


def pack_lzf(data: bytes) -> bytes:
    """LZF: a copy wherever three bytes were met before, runs as they are between."""
    out, run, met, at = bytearray(), bytearray(), {}, 0

    def end_run() -> None:
        for start in range(0, len(run), 32):
            piece = run[start : start + 32]
            out.extend((len(piece) - 1, *piece))
        run.clear()

    while at < len(data):
        key = data[at : at + 3]
        away = at - met.get(key, at) - 1
        met[key] = at
        if len(key) < 3 or not 0 <= away < 8192:
            run.append(data[at])
            at += 1
            continue
        length = 3
        while length < 264 and data[at + length : at + length + 1] == bytes(
            data[at + length - away - 1 : at + length - away]
        ):
            if at + length >= len(data):
                break
            length += 1
        end_run()
        code = length - 2
        out.extend([(min(code, 7) << 5) | (away >> 8)] + ([code - 7] if code >= 7 else []))
        out.append(away & 255)
        at += length
    end_run()
    return bytes(out)


@given(st.binary(max_size=400).map(lambda data: data * 3))
def test_lzf_comes_back(data: bytes) -> None:
    assert _unpack_lzf(pack_lzf(data), len(data)) == data


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x20\x05", b"\xe0", b"\x20", b"\x1f" + bytes(40), b"\x00a\x20\xff", b"\x00a"],
)
def test_damaged_lzf_never_passes(packed: bytes) -> None:
    with pytest.raises(InputError, match="a damaged tile"):
        _unpack(b"\1" + packed, 16, "a.kra")


def tiles(pixels: np.ndarray, packed: bool = True) -> bytes:
    """Pixels (h, w, bytes) as 64 px tiles, their bytes plane by plane."""
    height, width, size = pixels.shape
    found = []
    for y in range(0, height, 64):
        for x in range(0, width, 64):
            tile = np.zeros((64, 64, size), np.uint8)
            part = pixels[y : y + 64, x : x + 64]
            tile[: part.shape[0], : part.shape[1]] = part
            raw = tile.transpose(2, 0, 1).tobytes()
            body = b"\1" + pack_lzf(raw) if packed else b"\0" + raw
            found.append(b"%d,%d,LZF,%d\n" % (x, y, len(body)) + body)
    head = f"VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE {size}\nDATA {len(found)}\n"
    return head.encode() + b"".join(found)


def bgra(rgba: Image8) -> np.ndarray:
    return rgba[..., [2, 1, 0, 3]]


def write(path: Path, layers: str, members: dict[str, bytes], size=(80, 70)) -> Path:
    """Write an archive whose main document holds `layers`, the front first."""
    xml = (
        '<DOC xmlns="http://www.calligra.org/DTD/krita"><IMAGE name="art" width="{}" height="{}"'
        ' colorspacename="RGBA" profile="sRGB-elle"><layers>{}</layers></IMAGE></DOC>'
    ).format(*size, layers)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mimetype", "application/x-krita")
        file.writestr("maindoc.xml", xml)
        for name, content in members.items():
            file.writestr(f"art/layers/{name}", content)
    return path


def paint(name: str, file: str, *more: str) -> str:
    attributes = " ".join(more) or 'x="0"'
    return (
        f'<layer name="{name}" filename="{file}" nodetype="paintlayer" colorspacename="RGBA"'
        f" {attributes}/>"
    )


def test_layers_groups_masks_clips_and_fills(tmp_path: Path, capsys) -> None:
    large = ellipse((10, 120, 200), 76, 66)
    shade = ellipse((90, 20, 30))
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[:40, :30] = 255
    masked = (
        '<layer name="masked" filename="l1" nodetype="paintlayer" colorspacename="RGBA"><masks>'
        '<mask name="m" filename="m1" nodetype="transparencymask" x="2" y="3"/></masks></layer>'
    )
    layers = (
        '<layer name="filter" nodetype="adjustmentlayer"/>'
        '<layer name="頭" nodetype="grouplayer" opacity="128" passthrough="0"><layers>'
        + paint("shade", "l2", 'x="-4" y="5" compositeop="multiply" channelflags="1110"')
        + masked
        + "</layers></layer>"
        + paint("ground", "l3", 'visible="0"')
    )
    members = {
        "l1": tiles(bgra(large)),
        "l2": tiles(bgra(shade), packed=False),
        "l3": b"VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE 4\nDATA 0\n",
        "l3.defaultpixel": bytes([30, 20, 10, 255]),
        "m1.pixelselection": tiles(mask),
    }
    character = ingested(tmp_path / "out", write(tmp_path / "a.kra", layers, members))
    ground, body, top = character.layers
    assert [layer.id for layer in character.layers] == ["ground", "頭/masked", "頭/shade"]
    assert ground.box == (0, 0, 80, 70) and not ground.visible
    assert ground.rgba()[3, 3].tolist() == [10, 20, 30, 255]
    x1, y1, x2, y2 = body.box
    assert (x2, y2) == (32, 43), "cut where the mask, which lies at 2, 3, ends"
    assert np.array_equal(body.rgba(), large[y1:y2, x1:x2])
    assert (top.blend, top.clip, top.opacity) == ("multiply", (1,), 128 / 255)
    x1, y1, x2, y2 = top.box
    assert np.array_equal(top.rgba(), shade[y1 - 5 : y2 - 5, x1 + 4 : x2 + 4])
    assert "filter: a adjustmentlayer is left out" in capsys.readouterr().out


def test_16_bit_and_gray(tmp_path: Path) -> None:
    shade = ellipse((90, 20, 30))
    wide = np.ascontiguousarray(bgra(shade)).astype("<u2") * 257
    gray = np.ascontiguousarray(shade[..., [0, 3]])
    layers = paint("wide", "w").replace('"RGBA"', '"RGBA16"') + paint("gray", "g").replace(
        '"RGBA"', '"GRAYA"'
    )
    members = {"w": tiles(wide.view(np.uint8)), "g": tiles(gray)}
    character = ingested(tmp_path / "out", write(tmp_path / "a.kra", layers, members))
    for layer, channels in zip(character.layers, ([0, 0, 0, 3], [0, 1, 2, 3]), strict=True):
        x1, y1, x2, y2 = layer.box
        assert np.array_equal(layer.rgba(), shade[y1:y2, x1:x2][..., channels])


def test_what_is_broken_is_named(tmp_path: Path, capsys) -> None:
    whole = tiles(bgra(ellipse((1, 2, 3))))
    far = whole.replace(b"0,0,LZF", b"99999999,0,LZF")
    cases = {
        "absent": {},
        "cut": {"l1": whole[:-9]},
        "size": {"l1": tiles(np.ones((8, 8, 3), np.uint8))},
        "head": {"l1": b"no tiles"},
        "tile": {"l1": whole[:90] + bytes(len(whole) - 90)},
        "far": {"l1": far},
    }
    for name, members in cases.items():
        write(tmp_path / f"{name}.kra", paint("a", "l1"), members)
    assert ingest(tmp_path / "out", tmp_path) == 1
    told = capsys.readouterr()
    assert "made 0, there already 0, failed 6" in told.out
    for text in (
        "absent.kra: a: has no file layers/l1",
        "cut.kra: art/layers/l1: ends within its tiles",
        "tiles of 64 x 64 px and 3 bytes, expected 4",
        "head.kra: art/layers/l1: not the tiles of a layer",
        "tile.kra: art/layers/l1: a damaged tile",
        "px away",
    ):
        assert text in told.err
