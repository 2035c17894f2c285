"""Written samples follow the published layout and hold what was drawn."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from seethrough.data.avatars import Character, draw_character, over
from seethrough.data.avatars_samples import visible_masks, write_characters, write_sample
from seethrough.data.items import SEEN_ALPHA
from seethrough.data.tags import HEAD, HEAD_PARTS, STORED_MASK_ORDER, TAGS_V2


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def decode(stored: dict[str, Any]) -> NDArray[np.uint8]:
    return np.asarray(coco.decode(cast(Any, stored)))


@pytest.fixture(scope="module")
def character() -> Character:
    return draw_character(11, "test", 72)


@pytest.fixture(scope="module")
def base(character: Character, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sample") / "one"
    write_sample(character, base)
    return base


def test_layers_read_back_rebuild_the_page(character: Character, base: Path) -> None:
    annotation = json.loads(base.with_name("one_ann.json").read_text())
    assert annotation["final_size"] == [72, 72]
    info = annotation["tag_info"]
    assert set(TAGS_V2) <= set(info)
    layers: list[tuple[int, NDArray[np.uint8]]] = []
    for tag in (tag for tag, entry in info.items() if entry["exists"] and tag != HEAD):
        x1, y1, x2, y2 = info[tag]["xyxy"]
        crop, depth = (
            read(base.with_name(f"one_{tag}.png")),
            read(base.with_name(f"one_{tag}_depth.png")),
        )
        assert crop.shape == (y2 - y1, x2 - x1, 4) and depth.shape == crop.shape[:2]
        assert ((crop[..., 3] > SEEN_ALPHA) == (depth > 0)).all()
        rows, columns = np.nonzero(crop[..., 3])
        assert (rows.min(), columns.min()) == (0, 0)
        assert (rows.max() + 1, columns.max() + 1) == crop.shape[:2]
        canvas = np.zeros((72, 72, 4), np.uint8)
        canvas[y1:y2, x1:x2] = crop
        layers.append((int(depth.max()), canvas))
    assert len(layers) == len(character.layers)
    flat = over(canvas for _, canvas in sorted(layers, key=lambda layer: layer[0]))
    page = read(base.with_name("one.png")).astype(np.float64)
    solid = page[..., 3] == 255
    assert solid.mean() > 0.1
    assert np.abs(flat[..., :3] - page[..., :3])[solid].max() <= 1
    assert np.abs(flat[..., 3] * 255 - page[..., 3]).max() <= 1


def test_masks_are_stored_in_order_and_tell_what_is_visible(
    character: Character, base: Path
) -> None:
    stored = json.loads(base.with_name("one.json").read_text())
    assert len(stored) == len(STORED_MASK_ORDER)
    masks: dict[str, NDArray[np.uint8]] = {
        tag: decode(mask) for tag, mask in zip(STORED_MASK_ORDER, stored, strict=True)
    }
    expected = visible_masks(character)
    for tag, mask in masks.items():
        assert mask.shape == (72, 72)
        assert (mask.astype(bool) == expected.get(tag, np.zeros((72, 72), bool))).all()
    parts = [tag for tag in STORED_MASK_ORDER if tag != HEAD]
    total = np.sum([masks[tag].astype(int) for tag in parts], axis=0)
    assert total.max() == 1, "one layer is seen at a pixel"
    head = np.any([masks[tag] for tag in HEAD_PARTS], axis=0)
    assert (masks[HEAD].astype(bool) == head).all() and head.any()


def test_page_and_layers_have_a_depth_at_the_same_pixels(character: Character, base: Path) -> None:
    """The page's is that of the nearest layer, also where this one's rim is soft."""
    depth = read(base.with_name("one_depth.png"))
    expected = np.zeros((72, 72), np.uint8)
    for layer in character.layers:
        expected[layer.rgba[..., 3] > SEEN_ALPHA] = layer.depth.max()
    assert (depth == expected).all()
    soft = (depth > 0) & (read(base.with_name("one.png"))[..., 3] <= 127)
    assert soft.any()


def test_the_list_names_every_page_and_does_not_depend_on_the_count(tmp_path: Path) -> None:
    three = write_characters(tmp_path / "three", "train", 3, 32, seed=5)
    two = write_characters(tmp_path / "two", "train", 2, 32, seed=5)
    other = write_characters(tmp_path / "other", "train", 2, 32, seed=6)
    assert three.name == "train.txt"
    names = three.read_text().splitlines()
    assert len(names) == 3 and all((three.parent / name).is_file() for name in names)
    assert names[:2] == two.read_text().splitlines()
    for name in names[:2]:
        assert (three.parent / name).read_bytes() == (two.parent / name).read_bytes()
        assert (three.parent / name).read_bytes() != (other.parent / name).read_bytes()
