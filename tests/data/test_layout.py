"""Samples on disk: what is read, and what is said of a broken one."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seethrough.data.layout import Sample, read_sample, straight
from seethrough.data.tags import STORED_MASK_ORDER
from seethrough.errors import InputError
from tests.samples import run_lengths, write_json, write_png, write_sample

BOXES = {"legwear": (9, 24, 21, 38), "topwear": (6, 13, 24, 25), "face": (10, 4, 20, 13)}


def make(folder: Path) -> Sample:
    return read_sample(write_sample(folder, "a.b", (40, 30), BOXES))


def edit(sample: Sample, change: Callable[[dict], object]) -> Path:
    path = sample.path("_ann.json")
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)
    return path


def interlaced(rgba: np.ndarray) -> bytes:
    """Write a PNG of 8 bit RGBA in Adam7's seven passes, which neither library does."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for y, x, down, right in [*starts, (1, 0, 2, 1)]
        for row in rgba[y::down, x::right]
        if row.size
    )
    height, width = rgba.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 1)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def error(act: Callable[[], object], *told: object) -> None:
    with pytest.raises(InputError) as raised:
        act()
    for part in told:
        assert str(part) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_annotation_gives_the_layers_that_exist(tmp_path: Path):
    sample = make(tmp_path)
    assert sample.name == "a.b"
    assert sample.size == (40, 30)
    assert sample.boxes == BOXES
    assert sample.layer_alpha == "straight"


def test_pictures_have_the_annotated_sizes_and_stored_pixels(tmp_path: Path):
    sample = make(tmp_path)
    page = sample.page()
    assert page.shape == (40, 30, 4) and page.dtype == np.uint8
    for tag, (x1, y1, x2, y2) in BOXES.items():
        layer = sample.layer(tag)
        assert layer.shape == (y2 - y1, x2 - x1, 4)
        assert np.array_equal(layer, np.asarray(Image.open(tmp_path / f"a.b_{tag}.png")))
        assert sample.depth(tag).shape == layer.shape[:2]
    # The face is in front: where it is opaque, the page shows it.
    x1, y1, x2, y2 = BOXES["face"]
    face, shown = sample.layer("face"), page[y1:y2, x1:x2]
    opaque = face[..., 3] == 255
    assert opaque.sum() > 20 and np.array_equal(face[opaque], shown[opaque])


def test_page_without_annotation_has_no_layers(tmp_path: Path):
    write_png(tmp_path / "p.png", np.full((5, 6, 4), 9, np.uint8))
    sample = read_sample(tmp_path / "p.png")
    assert sample.boxes == {} and sample.size is None
    assert sample.page().shape == (5, 6, 4)


def test_page_without_alpha_is_opaque(tmp_path: Path):
    write_png(tmp_path / "p.png", np.full((5, 6, 3), 9, np.uint8))
    page = read_sample(tmp_path / "p.png").page()
    assert page.shape == (5, 6, 4) and (page[..., 3] == 255).all()


def test_a_grey_page_of_16_bit_becomes_the_nearest_of_8(tmp_path: Path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    cv2.imwrite(str(tmp_path / "g.png"), grey.astype(np.uint16) * 257)
    page = read_sample(tmp_path / "g.png").page()
    assert np.array_equal(page, np.dstack([grey, grey, grey, np.full_like(grey, 255)]))


@pytest.mark.parametrize("mode", ["palette", "interlaced", "16 bit", "grey and alpha", "WebP"])
def test_any_kind_of_picture_with_alpha_is_read_alike(tmp_path: Path, mode: str):
    """Only the plain kind of PNG, 8 bit RGBA, is decoded by OpenCV."""
    sample = make(tmp_path)
    path = sample.layer_path("face")
    image = Image.open(path)
    if mode == "palette":
        image.quantize(64).save(path)
        expected = Image.open(path).convert("RGBA")
    elif mode == "grey and alpha":
        image.convert("LA").save(path)
        expected = image.convert("LA").convert("RGBA")
    elif mode == "16 bit":
        # 257 times a level of 8 bit is the same level of 16 bit.
        levels = np.asarray(image)[..., [2, 1, 0, 3]].astype(np.uint16) * 257
        path.write_bytes(cv2.imencode(".png", levels)[1].tobytes())
        expected = image
    elif mode == "interlaced":
        path.write_bytes(interlaced(np.asarray(image)))
        expected = image
    else:
        image.save(path, format="WebP", lossless=True, exact=True)
        expected = image
    assert np.array_equal(sample.layer("face"), np.asarray(expected))


def test_depth_of_8_and_16_bit_is_read_as_stored(tmp_path: Path):
    sample = make(tmp_path)
    assert sample.depth().dtype == np.uint8 and sample.depth().max() == 3
    levels = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    write_png(sample.path("_depth.png"), levels)
    assert sample.depth().dtype == np.uint16
    assert np.array_equal(sample.depth(), levels)


def test_masks_are_named_as_they_are_stored(tmp_path: Path):
    """`head` is first in training lists and last in the file; its mask is looked up by name."""
    sample = make(tmp_path)
    masks = sample.masks()
    assert sample.masks(["head"]).keys() == {"head"}
    assert np.array_equal(sample.masks(["head"])["head"], masks["head"])
    with pytest.raises(InputError, match="not of 'hair'"):
        sample.masks(["hair"])
    assert list(masks) == list(STORED_MASK_ORDER)
    x1, y1, x2, y2 = BOXES["face"]
    face = np.zeros((40, 30), bool)
    face[y1:y2, x1:x2] = sample.layer("face")[..., 3] > 25
    assert face.any() and np.array_equal(masks["face"], face)
    assert not masks["head"].any() and not masks["front hair"].any()


@pytest.mark.parametrize("told_by", ["annotation", "caller"])
def test_premultiplied_layers_are_read_as_straight(tmp_path: Path, told_by: str):
    sample = make(tmp_path)
    before = sample.layer("face")
    alpha = before[..., 3:].astype(float)
    stored = np.dstack([np.rint(before[..., :3] * alpha / 255), alpha]).astype(np.uint8)
    write_png(sample.layer_path("face"), stored)
    if told_by == "annotation":
        edit(sample, lambda ann: ann.update(layer_alpha="premultiplied"))
        after = read_sample(sample.page_path).layer("face")
    else:
        after = read_sample(sample.page_path, "premultiplied").layer("face")
    assert np.array_equal(after[..., 3], before[..., 3])
    # Rounding to 8 bit loses half a level, which the division by alpha magnifies.
    difference = np.abs(after[..., :3].astype(float) - before[..., :3])
    assert (difference <= 0.5 * 255 / np.maximum(alpha, 1) + 0.5).all()
    edit(sample, lambda ann: ann.update(layer_alpha="straight"))
    assert read_sample(sample.page_path, "premultiplied").layer_alpha == "straight"


def test_straight_of_known_pixels():
    stored = np.array([[[64, 32, 0, 128], [9, 9, 9, 0], [7, 8, 9, 255], [200, 1, 0, 100]]], "u1")
    expected = [[[128, 64, 0, 128], [0, 0, 0, 0], [7, 8, 9, 255], [255, 3, 0, 100]]]
    assert straight(stored).tolist() == expected


def test_broken_layers_are_named(tmp_path: Path):
    sample = make(tmp_path)
    path = sample.layer_path("face")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    error(lambda: sample.layer("face"), path, "truncated")
    write_png(path, sample.page()[4:13, 10:20, :3])
    error(lambda: sample.layer("face"), path, "alpha channel", "RGB")
    write_png(path, np.zeros((9, 11, 4), np.uint8))
    error(lambda: sample.layer("face"), path, "11 x 9", "10 x 9", "xyxy of 'face'")
    path.unlink()
    error(lambda: sample.layer("face"), path, "no such file")


def test_broken_pages_are_named(tmp_path: Path):
    sample = make(tmp_path)
    whole = sample.page_path.read_bytes()
    sample.page_path.write_bytes(whole[: len(whole) // 2])
    error(sample.page, sample.page_path, "truncated")
    write_png(sample.page_path, np.zeros((30, 40, 4), np.uint8))
    error(sample.page, sample.page_path, "40 x 30", "30 x 40", "final_size")


def test_broken_depths_are_named(tmp_path: Path):
    sample = make(tmp_path)
    path = tmp_path / "a.b_face_depth.png"
    write_png(path, np.zeros((9, 9), np.uint8))
    error(lambda: sample.depth("face"), path, "9 x 9", "10 x 9")
    write_png(path, np.zeros((9, 10, 3), np.uint8))
    error(lambda: sample.depth("face"), path, "one channel", "RGB")
    write_png(sample.path("_depth.png"), np.zeros((9, 9), np.uint8))
    error(sample.depth, "a.b_depth.png", "final_size")


def test_broken_masks_are_named(tmp_path: Path):
    sample = make(tmp_path)
    path = sample.path(".json")
    good = json.loads(path.read_text())
    write_json(path, good[:-1])
    error(sample.masks, path, "24", "23")
    write_json(path, [*good[:-1], {"size": [40, 30]}])
    error(sample.masks, path, "'head'")
    write_json(path, [run_lengths(np.zeros((4, 4), bool)), *good[1:]])
    error(sample.masks, path, "4 x 4", "'front hair'")
    path.write_text("{")
    error(sample.masks, path, "masks can't be read")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a["tag_info"].update({"fronthair": {"exists": True}}), "nearest: front hair"),
        (lambda a: a["tag_info"].update({"fronthair": {"exists": False}}), "'fronthair'"),
        (lambda a: a["tag_info"].update({"face": 3}), "'face' must be an object"),
        (lambda a: a["tag_info"]["face"].pop("xyxy"), "'xyxy' of 'face' must be 4 whole numbers"),
        (lambda a: a["tag_info"]["face"].update(xyxy=[1, 2, 3.5, 4]), "found [1, 2, 3.5, 4]"),
        (lambda a: a["tag_info"]["face"].update(xyxy=[5, 2, 5, 4]), "empty or not inside"),
        (lambda a: a["tag_info"]["face"].update(xyxy=[5, 2, 31, 4]), "30 x 40"),
        (lambda a: a.pop("tag_info"), "tag_info"),
        (lambda a: a.pop("final_size"), "'final_size' must be 2 whole numbers"),
        (lambda a: a.update(final_size=[0, 30]), "must be positive"),
        (lambda a: a.update(layer_alpha="other"), "found 'other'"),
    ],
)
def test_broken_annotations_are_named(tmp_path: Path, change: Callable, told: str):
    sample = make(tmp_path)
    path = edit(sample, change)
    error(lambda: read_sample(sample.page_path), path, told)


def test_unreadable_annotation_is_named(tmp_path: Path):
    sample = make(tmp_path)
    path = sample.path("_ann.json")
    for content in (b'{"tag_info": ', b"\xff\xff", b"[]"):
        path.write_bytes(content)
        error(lambda: read_sample(sample.page_path), path, "annotation")


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), flip=st.none() | st.tuples(st.floats(0, 1), st.integers(0, 7)))
def test_a_damaged_png_is_an_input_error_or_reads_as_before(tmp_path_factory, cut, flip):
    folder = tmp_path_factory.mktemp("png")
    sample = make(folder)
    before = sample.layer("face")
    path = sample.layer_path("face")
    data = bytearray(path.read_bytes())
    if flip is None:
        data = data[: int(cut * len(data))]
    else:
        data[min(int(flip[0] * len(data)), len(data) - 1)] ^= 1 << flip[1]
    path.write_bytes(data)
    try:
        assert np.array_equal(sample.layer("face"), before)
    except InputError as raised:
        assert str(path) in str(raised)


def test_bytes_hash_covers_page_annotation_and_layers(tmp_path: Path):
    sample = make(tmp_path)
    hashes = {sample.bytes_hash(), read_sample(sample.page_path, "premultiplied").bytes_hash()}
    for ending in (".png", "_ann.json", "_face.png"):
        path = sample.path(ending)
        path.write_bytes(path.read_bytes() + b" ")
        hashes.add(sample.bytes_hash())
    assert len(hashes) == 5
    (tmp_path / "other.png").write_bytes(b"")
    assert sample.bytes_hash() in hashes
