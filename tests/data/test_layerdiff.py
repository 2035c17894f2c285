"""The LayerDiff datasets: what an item holds, and that it is a function of its draw alone."""

import json
from collections import Counter
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seethrough.data.crops import fit_layer, fit_page
from seethrough.data.items import CharacterCrop, Crop
from seethrough.data.layerdiff import LayerDiff2DDataset
from seethrough.data.tags import (
    BODY_GROUP,
    HEAD_GROUP,
    LEGWEAR_WITH_FOOTWEAR,
)
from seethrough.errors import InputError
from seethrough.recipes.layer_data import LayerData
from tests.data.layers import (
    PARITY_BOXES,
    at,
    dataset_2d,
    dataset_3d,
    parity_sample,
    pictures,
    two_samples,
    variant,
)
from tests.samples import write_json, write_png, write_sample

# --- 3D -----------------------------------------------------------------------------------------


def test_parity_item(tmp_path: Path):
    """Number 26 of the parity tests.

    Resizing colour weighed by alpha leaves alpha as it was, so the published sums hold.
    """
    dataset = dataset_3d(parity_sample(tmp_path), target_size=64)
    body, head, again = (dataset[at(index)] for index in range(3))
    assert [item["group_index"] for item in (body, head, again)] == [0, 1, 0]
    assert [len(item["layers"]) for item in (body, head, again)] == [13, 11, 13]
    assert body["captions"][8] == LEGWEAR_WITH_FOOTWEAR
    assert body["present"].nonzero().flatten().tolist() == [2, 5, 8]
    assert head["present"].nonzero().flatten().tolist() == [1]
    sums = (body["layers"][[2, 5, 8], 0] / 255).sum((1, 2)).tolist()
    assert sums == pytest.approx([377.780, 505.820, 379.420], rel=2e-4)
    assert (head["layers"][1, 0] / 255).sum().item() == pytest.approx(2294.196, rel=2e-4)
    for item in (body, head):
        assert (item["page"][0] == 255).all()
        absent = item["layers"][~item["present"]]
        assert not absent.any()


def test_3d_item_shapes_ranges_and_captions(tmp_path: Path):
    dataset = dataset_3d(two_samples(tmp_path))
    assert len(dataset) == 2
    item = dataset[at(1, sample=0)]
    assert item["name"] == "a" and item["draw"] == at(1, sample=0)
    assert item["layers"].shape == (11, 4, 24, 24) and item["page"].shape == (4, 24, 24)
    assert item["layers"].dtype == item["page"].dtype == torch.uint8
    assert item["captions"] == list(HEAD_GROUP)
    assert item["present"].dtype == torch.bool
    with_shoes = dataset[at(0, sample=1)]
    assert with_shoes["captions"] == list(BODY_GROUP)


def test_groups_are_padded_with_absent_frames(tmp_path: Path):
    source = two_samples(tmp_path)
    plain, padded = dataset_3d(source), dataset_3d(source, pad_frames=12)
    item, longer = plain[at(1)], padded[at(1)]
    assert longer["captions"] == [*HEAD_GROUP, ""]
    assert longer["present"].tolist() == [*item["present"].tolist(), False]
    assert torch.equal(longer["layers"][:11], item["layers"]) and not longer["layers"][11].any()
    assert torch.equal(longer["page"], item["page"])
    assert set(padded.captions()) == {*plain.captions(), ""}
    # A longer group stays as it is.
    assert padded[at(0)]["captions"] == plain[at(0)]["captions"]


def test_frames_are_the_layers_at_the_union_box(tmp_path: Path):
    """Against the files, cut by hand: both the page and each frame, alpha first."""
    dataset = dataset_3d(two_samples(tmp_path))
    sample = dataset.sample(0)
    present = [tag for tag in BODY_GROUP if tag in sample.boxes]
    corners = np.array([sample.boxes[tag] for tag in present])
    box = (*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist())
    assert variant(dataset, at(0)) == (0, Crop(box, False))
    item = dataset[at(0)]
    assert len(present) == 2
    for tag in present:
        expected = fit_layer(sample.layer(tag), sample.boxes[tag], box, 24, False)
        frame = item["layers"][BODY_GROUP.index(tag)].permute(1, 2, 0).numpy()
        assert np.array_equal(frame, expected[..., [3, 0, 1, 2]])
    page = item["page"][1:].permute(1, 2, 0).numpy()
    assert np.array_equal(page, fit_page(sample.page(), box, 24, False)[..., :3])


def test_layers_paint_the_page_that_shows_them(tmp_path: Path):
    """The frames of one group over each other give the page where they hide the background."""
    tags = ("back hair", "neck", "topwear", "front hair")
    source = write_sample(tmp_path, "c", (64, 64), tags, seed=5)
    item = dataset_3d(source, target_size=64)[at(0)]
    colour, cover = torch.zeros(3, 64, 64), torch.zeros(64, 64)
    for tag in tags:
        alpha, *rgb = item["layers"][BODY_GROUP.index(tag)] / 255
        colour = torch.stack(rgb) * alpha + colour * (1 - alpha)
        cover = alpha + cover * (1 - alpha)
    solid = cover > 0.999
    assert solid.sum() > 300
    assert (colour - item["page"][1:] / 255).abs()[:, solid].max() < 0.03


def test_group_is_a_function_of_the_position_in_the_run(tmp_path: Path):
    source = two_samples(tmp_path)
    alternating = dataset_3d(source)
    groups = [alternating.group(at(index, step=step)) for step in range(2) for index in range(4)]
    assert groups == [0, 1, 0, 1, 0, 1, 0, 1]
    odd = dataset_3d(source, global_batch=3)
    assert [odd.group(at(i, step=s)) for s in range(2) for i in range(3)] == [0, 1, 0, 1, 0, 1]
    runs = dataset_3d(source, ngroup_iters=2)
    assert [runs.group(at(index)) for index in range(6)] == [0, 0, 1, 1, 0, 0]
    assert [runs[at(i, sample=i % 2)]["group_index"] for i in range(4)] == [0, 0, 1, 1]


def test_sample_without_the_group_is_the_whole_page_and_absent_frames(tmp_path: Path):
    """The published dataset crashes on it."""
    dataset = dataset_3d(two_samples(tmp_path), random_pad_prob=1.0, target_size=44)
    item = dataset[at(1, sample=1)]
    assert not item["present"].any() and not item["layers"].any()
    page = dataset.sample(1).page()
    middle = item["page"][1:, 7:37].permute(1, 2, 0).numpy()
    assert np.array_equal(middle, page[..., :3])
    assert not item["page"][1:, :7].any() and not item["page"][1:, 37:].any()


def test_crop_tags_choose_the_box(tmp_path: Path):
    source = parity_sample(tmp_path)
    dataset = dataset_3d(source, crop_tags=(("topwear",), ("head", "topwear")))
    assert variant(dataset, at(0)) == (0, Crop(PARITY_BOXES["topwear"], False))
    assert variant(dataset, at(1)) == (1, Crop((6, 2, 24, 25), False))
    with pytest.raises(InputError, match="1 entries for 2 groups"):
        dataset_3d(source, crop_tags=(("topwear",),))


def test_groups_without_crop_tags_are_cropped_to_their_own_but_the_skipped(tmp_path: Path):
    source = parity_sample(tmp_path)
    skipping = dataset_3d(source, crop_skip_tags=("head", "face"))
    legs, top = PARITY_BOXES["legwear"], PARITY_BOXES["topwear"]
    assert variant(skipping, at(0)) == (0, Crop((6, 13, 24, legs[3]), False))
    # Nothing of the head group is left to tell the crop.
    assert variant(skipping, at(1)) == (1, Crop((0, 0, 30, 40), False))
    mixed = dataset_3d(source, crop_tags=((), ("topwear",)), crop_skip_tags=("head", "topwear"))
    assert variant(mixed, at(0)) == (0, Crop(legs, False))
    assert variant(mixed, at(1)) == (1, Crop(top, False))
    assert mixed[at(0)]["present"].sum() == 3
    with pytest.raises(InputError, match="unknown tag 'fase'"):
        dataset_3d(source, crop_skip_tags=("fase",))


def test_3d_needs_an_annotation(tmp_path: Path):
    write_png(tmp_path / "p.png", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InputError, match=r"p_ann\.json: no such file"):
        dataset_3d(tmp_path / "p.png")[at(0)]


# --- 2D -----------------------------------------------------------------------------------------


def test_2d_item_shapes_ranges_and_names(tmp_path: Path):
    dataset = dataset_2d(two_samples(tmp_path))
    item = dataset[at(0)]
    assert item["layer"].shape == item["page"].shape == (4, 24, 24)
    assert item["layer"].dtype == item["page"].dtype == torch.uint8
    assert (item["page"][0] == 255).all()
    assert item["name"] == f"a_{item['caption']}" and item["draw"] == at(0)
    assert 0 < item["layer"][0].float().mean() < 255


def test_tag_and_crop_box_are_chosen_uniformly(tmp_path: Path):
    dataset = dataset_2d(parity_sample(tmp_path), target_size_groups=LayerData().size_groups)
    variants = [variant(dataset, at(index)) for index in range(1200)]
    tags = Counter(tag for tag, _ in variants)
    assert tags.keys() == PARITY_BOXES.keys() and min(tags.values()) > 240
    boxes = Counter(crop.box for tag, crop in variants if tag == "face" and isinstance(crop, Crop))
    own, upper, everything = PARITY_BOXES["face"], (8, 2, 22, 14), (6, 2, 24, 38)
    assert boxes.keys() == {own, upper, everything} and min(boxes.values()) > 70
    lower = {c.box for tag, c in variants if tag == "topwear" and isinstance(c, Crop)}
    assert lower == {PARITY_BOXES["topwear"], (6, 13, 24, 38), everything}


def test_own_box_can_be_left_out_where_a_group_gives_another(tmp_path: Path):
    source = parity_sample(tmp_path)
    dataset = dataset_2d(source, target_size_groups=(("head", "face"),), own_box=False)
    crops = dict(variant(dataset, at(index)) for index in range(60))
    assert crops["face"] == Crop(PARITY_BOXES["head"], False)
    assert crops["topwear"] == Crop(PARITY_BOXES["topwear"], False)


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_the_character_is_the_crop_of_every_draw(tmp_path: Path, make):
    dataset = make(parity_sample(tmp_path), crop_to="character")
    assert {dataset.item(at(index)).crop for index in range(20)} == {Crop((6, 2, 24, 38), False)}


def test_tags_can_be_limited(tmp_path: Path):
    source = two_samples(tmp_path)
    draws = [at(index, sample=1) for index in range(60)]
    everything = {variant(dataset_2d(source), d)[0] for d in draws}
    assert everything == {"wings", "legwear", "footwear", "objects"}
    assert {variant(dataset_2d(source, load_objects=False), d)[0] for d in draws} == (
        everything - {"objects"}
    )
    limited = dataset_2d(source, tag_list=("face", "wings"))
    assert {variant(limited, d)[0] for d in draws} == {"wings"}
    assert limited.captions() == ["", "face", LEGWEAR_WITH_FOOTWEAR, "wings"]


@pytest.mark.parametrize("options", [{"tag_list": ("fase",)}, {"target_size_groups": (("fase",),)}])
def test_unknown_tag_in_the_options_is_named(tmp_path: Path, options: dict):
    with pytest.raises(InputError, match="unknown tag 'fase'; nearest: face"):
        dataset_2d(parity_sample(tmp_path), **options)
    with pytest.raises(InputError, match="unknown tag 'fase'"):
        dataset_3d(parity_sample(tmp_path), groups=(("fase",),))


def test_sample_without_layers_is_the_whole_character(tmp_path: Path):
    page = np.full((20, 30, 4), 50, np.uint8)
    page[..., 3] = 0
    page[4:14, 3:9] = (10, 200, 30, 255)
    write_png(tmp_path / "p.png", page)
    dataset = dataset_2d(tmp_path / "p.png", target_size=10)
    assert variant(dataset, at(0)) == ("", CharacterCrop(None, False))
    item = dataset[at(0)]
    assert item["caption"] == "" and item["name"] == "p"
    alpha = np.zeros((10, 10), np.uint8)
    alpha[:, 2:8] = 255
    assert np.array_equal(item["layer"][0].numpy(), alpha)
    enlarged = attrs.evolve(dataset, random_pad_prob=1.0)
    shares = [(enlarged[at(index)]["layer"][0] / 255).mean().item() for index in range(20)]
    assert len(set(shares)) > 10 and min(shares) < 0.3 and max(shares) < 0.61


# --- Both ---------------------------------------------------------------------------------------

AUGMENTED = {"random_flip": 0.5, "random_pad_prob": 0.5}


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_an_item_is_a_function_of_its_draw(tmp_path: Path, make):
    source = two_samples(tmp_path)
    dataset, other = make(source, **AUGMENTED), make(source, **AUGMENTED)
    other[at(3, sample=1)]
    for index in range(8):
        one, two = dataset[at(index, sample=index % 2)], other[at(index, sample=index % 2)]
        assert torch.equal(pictures(one), pictures(two))
    draws = [at(index, sample=index % 2) for index in range(8)]
    loader = DataLoader(dataset, sampler=draws, batch_size=None, num_workers=2)
    for draw, item in zip(draws, loader, strict=True):
        assert item["draw"] == draw
        assert torch.equal(pictures(item), pictures(dataset[draw]))


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_equal_choices_make_equal_pictures(tmp_path: Path, make):
    dataset = make(parity_sample(tmp_path), random_flip=0.5)
    seen: dict[object, torch.Tensor] = {}
    for index in range(40):
        item = pictures(dataset[at(index)])
        assert torch.equal(seen.setdefault(variant(dataset, at(index)), item), item)
    assert len(seen) == (2 * len(PARITY_BOXES) if make is dataset_2d else 4)


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_without_augmentation_only_tag_or_group_varies(tmp_path: Path, make):
    dataset = make(parity_sample(tmp_path))
    variants = {variant(dataset, at(index, step=step)) for index in range(20) for step in range(3)}
    assert len(variants) == len({what for what, _ in variants})


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_choosing_decodes_no_picture(tmp_path: Path, make):
    dataset = make(two_samples(tmp_path), **AUGMENTED)
    before = [variant(dataset, at(index, sample=index % 2)) for index in range(10)]
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    assert [variant(dataset, at(index, sample=index % 2)) for index in range(10)] == before


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_augmentation_has_its_rates_and_reaches_the_edges(tmp_path: Path, make):
    dataset = make(parity_sample(tmp_path), random_flip=0.25, random_pad_prob=0.75)
    plain = make(parity_sample(tmp_path))
    # Steps of one index, so that the group stays the same.
    draws = [at(0, step=step) for step in range(600)]
    crops = [variant(dataset, draw)[1] for draw in draws]
    assert 110 < sum(crop.flip for crop in crops) < 190
    grown = [c.box != variant(plain, d)[1].box for c, d in zip(crops, draws, strict=True)]
    assert 400 < sum(grown) < 480
    boxes = np.array([crop.box for crop in crops])
    assert boxes.min(0)[:2].tolist() == [0, 0] and boxes.max(0)[2:].tolist() == [30, 40]


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_flip_mirrors_page_and_layers_together(tmp_path: Path, make):
    # A page with an even margin: mirrored, the square lies on the same pixels.
    source = write_sample(tmp_path, "e", (40, 30), {"topwear": (4, 8, 24, 30)}, seed=3)
    plain = make(source, target_size=22)[at(0)]
    flipped = make(source, target_size=22, random_flip=1.0)[at(0)]
    assert torch.equal(pictures(flipped), pictures(plain).flip(-1))
    assert not torch.equal(pictures(flipped), pictures(plain))


def test_sources_are_repeated_by_their_rates(tmp_path: Path):
    source, page = two_samples(tmp_path / "two"), parity_sample(tmp_path)
    dataset = LayerDiff2DDataset(sources=((source, 3), (page, 1)), target_size=8)
    assert [dataset.sample(row).name for row in range(len(dataset))] == [*"ab" * 3, "p"]


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_a_sample_that_cant_be_read_is_named(tmp_path: Path, make):
    source = parity_sample(tmp_path)
    dataset = make(source)
    layers = sorted(tmp_path.glob("p_*.png"))
    for path in layers:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"p_\w+\.png: broken"):
        dataset[at(0)]
    annotation_path = tmp_path / "p_ann.json"
    content = json.loads(annotation_path.read_text())
    content["tag_info"]["hat"] = {"exists": False}
    write_json(annotation_path, content)
    with pytest.raises(InputError, match=r"p_ann\.json: unknown tag 'hat'"):
        dataset[at(0)]
