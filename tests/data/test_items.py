"""Pictures of an item: what they show, what they depend on, and the mask condition."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from seethrough.data.tags import STORED_MASK_ORDER, TAG_GROUPS
from seethrough.errors import InputError
from tests.data.layers import at, dataset_2d, dataset_3d, parity_sample
from tests.samples import run_lengths, write_json, write_png, write_sample


def test_a_picture_key_tells_pictures_apart(tmp_path: Path):
    source = parity_sample(tmp_path)
    made = [
        dataset_2d(source, crop_to="character"),
        dataset_2d(source, target_size=32, crop_to="character"),
        dataset_2d(source, crop_to="character", random_flip=1.0),
        dataset_3d(source, groups=TAG_GROUPS[::-1]),
    ]
    keys = {dataset.item(at(0)).key("face") for dataset in made}
    assert len(keys) == len(made)
    pages = [*made, dataset_2d(source, page_alpha="character", crop_to="character")]
    page_keys = {dataset.item(at(0)).key("page") for dataset in pages}
    assert len(page_keys) == len(pages) and not page_keys & keys


def test_2d_and_3d_share_the_keys_and_the_bytes_of_equal_pictures(tmp_path: Path):
    source = parity_sample(tmp_path)
    flat, deep = dataset_2d(source, crop_to="character"), dataset_3d(source, crop_to="character")
    for name in ("topwear", "page"):
        one, other = flat.item(at(0)), deep.item(at(3))
        assert one.key(name) == other.key(name)
        assert torch.equal(one.picture(name), other.picture(name))


def hidden_sample(folder: Path) -> Path:
    """A page whose right half is covered; masks of each tag are stripes of their own."""
    source = write_sample(folder, "m", (40, 40), {"head": (4, 4, 24, 24), "face": (8, 8, 30, 28)})
    masks = {tag: np.zeros((40, 40), bool) for tag in STORED_MASK_ORDER}
    masks["head"][:, :14] = True
    masks["face"][:, :20] = True
    write_json(folder / "m.json", [run_lengths(masks[tag]) for tag in STORED_MASK_ORDER])
    return source


@pytest.mark.parametrize(("tag", "edge"), [("head", 14), ("face", 20)])
def test_the_visible_part_is_found_by_the_name_of_the_tag(tmp_path: Path, tag: str, edge: int):
    """Masks are stored with `head` last, while it is the first of the tags."""
    options: dict[str, Any] = {"tag_list": (tag,), "crop_to": "character", "target_size": 26}
    item = dataset_2d(hidden_sample(tmp_path), mask_condition=True, **options)[at(0)]
    left = edge - 4  # on the crop, which is the character's box
    assert item["visible"].shape == (4, 26, 26) and item["visible"].dtype == torch.uint8
    assert torch.equal(item["visible"][:, :, :left], item["layer"][:, :, :left])
    assert item["layer"][0, :, left:].any() and not item["visible"][:, :, left:].any()
    # The page is that of the character, with an alpha of 0 and 1.
    plain = dataset_2d(tmp_path / "m.png", page_alpha="character", **options)[at(0)]
    assert torch.equal(plain["layer"], item["layer"])
    seen = plain["page"][0] > 25
    assert torch.equal(item["page"][0], seen * torch.tensor(255, dtype=torch.uint8))
    assert torch.equal(item["page"][1:, seen], plain["page"][1:, seen])
    assert not item["page"][:, ~seen].any()


def test_of_a_whole_character_the_page_is_the_visible_part(tmp_path: Path):
    source = hidden_sample(tmp_path)
    dataset = dataset_2d(source, mask_condition=True, tag_list=("wings",))
    item = dataset[at(0)]
    assert dataset.item(at(0)).names == ["", "page"]  # decoded and encoded once
    assert torch.equal(item["visible"], item["page"])
    assert (tmp_path / "m.json").unlink() is None
    assert torch.equal(dataset[at(0)]["page"], item["page"])
    with pytest.raises(InputError, match=r"m\.json: can't be read"):
        dataset_2d(source, mask_condition=True)[at(0)]


def test_random_masks_change_the_page_of_whole_characters_alone(tmp_path: Path):
    source = hidden_sample(tmp_path)
    options: dict[str, Any] = {"mask_condition": True, "target_size": 64}
    whole = dataset_2d(source, tag_list=("wings",), random_mask=0.5, **options)
    plain = attrs.evolve(whole, random_mask=0.0)
    draws = [at(index) for index in range(60)]
    kinds = Counter(
        item.mask_change.kind if item.mask_change else "none" for item in map(whole.item, draws)
    )
    assert kinds.keys() == {"erode", "dilate", "hole", "none"}
    assert 18 < kinds["none"] < 42 and min(kinds.values()) >= 4
    for draw in draws[:20]:
        item, expected = whole[draw], plain[draw]
        assert torch.equal(item["layer"], expected["layer"])
        changed = whole.item(draw).mask_change
        assert torch.equal(item["page"], expected["page"]) == (changed is None)
        assert torch.equal(item["page"], whole[draw]["page"])
        keys = [dataset.item(draw).key("page") for dataset in (whole, plain)]
        assert (keys[0] == keys[1]) == (changed is None)
    layered = dataset_2d(source, random_mask=1.0, **options)
    assert all(layered.item(draw).mask_change is None for draw in draws)


def test_the_key_of_the_visible_part_tells_the_tag_and_the_masks(tmp_path: Path):
    source = hidden_sample(tmp_path)

    def key(tag: str) -> str:
        options: dict[str, Any] = {"tag_list": (tag,), "crop_to": "character"}
        return dataset_2d(source, mask_condition=True, **options).item(at(0)).key("visible")

    before = key("face")
    assert key("head") != before == key("face")
    stored = json.loads((tmp_path / "m.json").read_text())
    write_json(tmp_path / "m.json", stored[::-1])
    assert key("face") != before


def test_transparent_pixels_of_layers_have_no_colour(tmp_path: Path):
    """They are filled on the device of the network that sees them."""
    source = write_sample(tmp_path, "e", (40, 40), {"topwear": (4, 8, 34, 38)}, seed=3)
    layer = dataset_2d(source)[at(0)]["layer"]
    clear = layer[0] == 0
    assert clear.any() and not layer[1:, clear].any()


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_an_item_reads_each_file_once(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch):
    dataset = make(parity_sample(tmp_path))
    reads: list[str] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    item = dataset[at(0)]
    # A layer and its caption, or all of a group.
    of_layers = 2 if make is dataset_2d else int(item["present"].sum())
    assert len(reads) == len(set(reads)) == of_layers + 2
    assert {"p_ann.json", "p.png"} < set(reads)


def test_page_without_its_background_has_the_alpha_of_the_character(tmp_path: Path):
    source = write_sample(tmp_path, "e", (40, 40), {"topwear": (4, 8, 34, 38)}, seed=3)
    with_background = dataset_2d(source, target_size=30)[at(0)]
    without = dataset_2d(source, target_size=30, page_alpha="character")[at(0)]
    assert (with_background["page"][0] == 255).all()
    assert torch.equal(without["page"][0], without["layer"][0])
    solid = without["page"][0] == 255
    assert torch.equal(without["page"][:, solid], with_background["page"][:, solid])


def test_premultiplied_layers(tmp_path: Path):
    """Files as the published renderer writes them give the items of straight ones."""
    source = parity_sample(tmp_path)
    faint = np.zeros((9, 10, 4), np.uint8)
    faint[1:-1, 1:-1] = (100, 50, 25, 128)
    write_png(tmp_path / "p_face.png", faint)
    item = dataset_2d(source, tag_list=("face",), layer_alpha="premultiplied")[at(0)]
    colour = item["layer"][1:, item["layer"][0] > 0]
    assert (colour - torch.tensor([[199.0], [100.0], [50.0]])).abs().max() < 2.5
