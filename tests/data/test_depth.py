"""The depth datasets: pictures, depths and masks lie on each other, whatever a draw chose."""

from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from seethrough.data.depth import (
    DepthDataset2D,
    DepthDataset3D,
    PageCrop,
    depth_mask,
    disk_to_depth,
    latent_mask,
    spread,
)
from seethrough.data.items import PAGE, SEEN_ALPHA, Crop
from seethrough.data.replacement import load
from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from tests.data.layers import at, two_samples
from tests.samples import annotation, write_json, write_list, write_png, write_sample

HEAD, BODY = TAGS_V2[:11], TAGS_V2[11:]
AUGMENTED = {"random_flip": 0.7, "random_crop": 0.7, "random_hsv": 0.5}
BOXES = {"back hair": (2, 1, 30, 30), "topwear": (4, 20, 36, 46), "front hair": (8, 3, 28, 20)}


def dataset_2d(source: Path, **options: Any) -> DepthDataset2D:
    return DepthDataset2D(sources=((source, 1),), **{"target_size": 32, **options})


def dataset_3d(source: Path, **options: Any) -> DepthDataset3D:
    defaults = {"target_size": 32, "groups": (HEAD, BODY, TAGS_V2), "global_batch": 4}
    return DepthDataset3D(sources=((source, 1),), **{**defaults, **options})


def tensors(item: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in item.items() if isinstance(value, torch.Tensor)}


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    a, b = tensors(one), tensors(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --- Depth and masks ----------------------------------------------------------------------------


def test_published_depth_of_levels():
    """Number 3 of the parity tests."""
    depth = disk_to_depth(np.array([[0, 1], [5, 10]], np.uint8), nearest=10)
    assert depth.dtype == np.float32
    assert np.allclose(depth, [[1, 0.8], [9.99999898e-8, -0.9999998]], rtol=1e-7, atol=1e-14)


@given(st.lists(st.integers(0, 65535), min_size=1), st.integers(1, 65535))
def test_depth_falls_as_levels_rise(found: list[int], nearest: int):
    """Every level has a depth of its own, up to 65,535 of them; the published ones wrap."""
    levels = np.array(sorted(set(found)), np.uint16)[None]
    depth = disk_to_depth(levels, nearest)
    assert depth.min() >= -1 and depth.max() <= 1
    assert (np.diff(depth[levels <= nearest]) < 0).all()
    assert (depth[levels == 0] == 1).all() and (depth[levels > 0] < 1).all()
    assert np.allclose(depth[levels >= nearest], -1, atol=3e-6)


def test_a_page_without_levels_is_far():
    assert (disk_to_depth(np.zeros((3, 3), np.uint8), nearest=0) == 1).all()


def test_masks_show_what_is_seen_and_has_a_depth():
    argb = torch.zeros(1, 4, 1, 4, dtype=torch.uint8)
    argb[0, 0, 0] = torch.tensor([SEEN_ALPHA, SEEN_ALPHA + 1, 255, 255])
    depth = torch.tensor([-1.0, -1.0, 0.999, 1.0]).reshape(1, 1, 1, 4)
    assert depth_mask(argb, depth).flatten().tolist() == [False, True, True, False]


def test_published_mask_of_latents():
    """Number 8 of the parity tests."""
    mask = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 3, 3] = False
    assert latent_mask(mask).int().tolist() == [[[[0, 1], [1, 1]]]]


# --- Alignment ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["columns", "rows"])
def traceable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample whose red, and whose levels, tell each pixel's column (or row), from 1 on.

    The character is an ellipse on a page of 59 x 43; its layers are parts of it.
    """
    folder = tmp_path_factory.mktemp(request.param)
    rows, columns = np.mgrid[:59, :43]
    place = (columns if request.param == "columns" else rows) + 1
    solid = np.hypot((rows - 29) / 28, (columns - 21) / 20) < 1
    page = np.dstack([place * 4, 0 * place, 0 * place, solid * 255]).astype(np.uint8)
    page[~solid] = 0
    levels = (place * solid * 10).astype(np.uint16)
    boxes = {"face": (10, 5, 30, 20), "hair": (3, 2, 40, 33), "topwear": (5, 20, 36, 58)}
    write_png(folder / "t.png", page)
    write_png(folder / "t_depth.png", levels)
    for tag, (x1, y1, x2, y2) in boxes.items():
        write_png(folder / f"t_{tag}.png", page[y1:y2, x1:x2])
        write_png(folder / f"t_{tag}_depth.png", levels[y1:y2, x1:x2])
    write_json(folder / "t_ann.json", annotation((59, 43), boxes))
    return folder / "t.png"


def assert_aligned(pictures: torch.Tensor, depths: torch.Tensor, masks: torch.Tensor):
    """Where a mask is, colour and level tell the same place, within a pixel and a half."""
    alpha = pictures[..., :1, :, :]
    solid = (masks & (alpha == 255)).numpy()
    assert not masks[alpha <= SEEN_ALPHA].any() and (depths[alpha == 0] == 1).all()
    told = pictures[..., 1:2, :, :].numpy()[solid] / 4
    level = (1 - depths.numpy()[solid].astype(np.float64)) / 2
    assert solid.sum() > 30 and np.ptp(told) > 5
    # The scale is that of the crop's nearest pixel, so it is found from the picture.
    slope, offset = np.polyfit(level, told, 1)
    assert slope > 0 and abs(offset) < 1
    assert np.abs(slope * level + offset - told).max() < 1.5


@settings(deadline=None, max_examples=40)
@given(index=st.integers(0, 10**6), side=st.integers(24, 80))
def test_page_depth_and_mask_are_aligned(traceable: Path, index: int, side: int):
    options = {**AUGMENTED, "random_hsv": 0.0, "target_size": side}
    item = dataset_2d(traceable, **options)[at(index)]
    assert_aligned(item["page"], item["depth"], item["mask"])


@settings(deadline=None, max_examples=40)
@given(index=st.integers(0, 10**6), side=st.integers(24, 80))
def test_frames_depths_and_masks_are_aligned(traceable: Path, index: int, side: int):
    options = {**AUGMENTED, "random_hsv": 0.0, "random_pad_prob": 0.5, "target_size": side}
    item = dataset_3d(traceable, **options)[at(index)]
    assert_aligned(item["frames"], item["depths"], item["masks"])


def test_mirroring_is_the_same_for_all(traceable: Path):
    # Nothing is resized, and the margins left and right of the page are equal.
    plain = dataset_2d(traceable, target_size=59)
    flipped = attrs.evolve(plain, random_flip=1.0)
    seen = set()
    for index in range(30):
        draw = at(index)
        item = flipped.item(draw)
        assert isinstance(item.crop, PageCrop)
        dims = ([-1] if item.crop.flip else []) + ([-2] if item.flip_vertical else [])
        seen.add(tuple(dims))
        for key, value in tensors(plain[draw]).items():
            assert torch.equal(flipped[draw][key], value.flip(dims)), key
    assert seen == {(), (-1,), (-2,), (-1, -2)}


def test_levels_are_not_mixed_by_resizing(tmp_path: Path):
    """The published 3D dataset averages them at edges to levels that no layer has."""
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    item = dataset_3d(source, target_size=17, groups=(TAGS_V2,))[at(0)]
    levels = (1 - item["depths"].double()) / 2 * 3
    assert (levels - levels.round()).abs().max() < 1e-5
    assert set(levels.round().int().flatten().tolist()) == {0, 1, 2, 3}


def test_16_bit_levels_keep_their_order(tmp_path: Path):
    """Level 300 is nearer than level 299; taken from 255 it would wrap."""
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    for path in sorted(tmp_path.glob("a*_depth.png")):
        levels = np.asarray(Image.open(path)).astype(np.uint16)
        write_png(path, np.where(levels > 0, levels + 297, 0).astype(np.uint16))
    item = dataset_3d(source, target_size=50, groups=(TAGS_V2,))[at(0)]
    frame = {tag: item["depths"][i].unique().tolist() for i, tag in enumerate(item["tags"])}
    assert frame["topwear"] == pytest.approx([1 - 2 * 299 / 300, 1])
    assert frame["hair"] == pytest.approx([-1, 1 - 2 * 298 / 300, 1], abs=1e-6)
    assert frame[PAGE][0] == pytest.approx(-1) and len(frame[PAGE]) == 4


# --- 2D -----------------------------------------------------------------------------------------


def test_2d_item_shapes_and_ranges(tmp_path: Path):
    item = dataset_2d(two_samples(tmp_path))[at(0)]
    assert {key: (tuple(value.shape), value.dtype) for key, value in tensors(item).items()} == {
        "page": ((4, 32, 32), torch.uint8),
        "depth": ((1, 32, 32), torch.float32),
        "mask": ((1, 32, 32), torch.bool),
    }
    assert item["name"] == "a" and item["draw"] == at(0)
    assert item["depth"].min() == pytest.approx(-1, abs=1e-6) and item["depth"].max() == 1
    # Below the character's alpha nothing of the background is left.
    assert not item["page"][1:, item["page"][0] == 0].any()


def test_2d_needs_no_annotation(tmp_path: Path):
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    annotated = dataset_2d(source)[at(0)]
    (tmp_path / "a_ann.json").unlink()
    assert same(dataset_2d(source)[at(0)], annotated)
    write_png(tmp_path / "a_depth.png", np.ones((50, 45), np.uint8))
    with pytest.raises(InputError, match=r"a_depth\.png: 45 x 50 pixels, but the page has 46 x 50"):
        dataset_2d(source)[at(0)]


def test_a_page_is_in_the_middle_of_its_square(tmp_path: Path):
    source = write_sample(tmp_path, "a", (40, 20), {"topwear": (0, 0, 20, 40)})
    item = dataset_2d(source, target_size=40)[at(0)]
    sample = dataset_2d(source).sample(0)
    assert torch.equal(item["page"][0, :, 10:30], torch.from_numpy(sample.page()[..., 3].copy()))
    assert (item["depth"][..., :10] == 1).all() and (item["depth"][..., 30:] == 1).all()


def test_2d_can_be_cropped_to_the_character(tmp_path: Path):
    source = write_sample(tmp_path, "a", (90, 80), {"topwear": (30, 40, 54, 70)})
    page = dataset_2d(source)[at(0)]["mask"].float().mean()
    character = dataset_2d(source, crop_to="character")[at(0)]["mask"].float().mean()
    assert page < 0.1 < 0.4 < character


def test_flips_have_their_published_rates(tmp_path: Path):
    source = two_samples(tmp_path)
    items = [dataset_2d(source, random_flip=0.5).item(at(index)) for index in range(2000)]
    found = Counter((item.crop.flip, item.flip_vertical) for item in items)  # type: ignore
    shares = {(True, False): 0.28, (True, True): 0.12, (False, True): 0.03, (False, False): 0.57}
    for kind, share in shares.items():
        assert found[kind] / 2000 == pytest.approx(share, abs=4 * (share / 2000) ** 0.5)
    plain = [dataset_2d(source).item(at(index)) for index in range(50)]
    assert not any(item.crop.flip or item.flip_vertical for item in plain)  # type: ignore


def test_crops_keep_their_share_and_reach_every_edge(tmp_path: Path):
    dataset = dataset_2d(write_sample(tmp_path, "a", (40, 40)), random_crop=0.5)
    page = np.zeros((40, 40, 4), np.uint8)
    boxes = []
    for index in range(2000):
        crop = dataset.item(at(index)).crop
        assert isinstance(crop, PageCrop)
        boxes.append(crop.on(page).box)
    x1, y1, x2, y2 = np.array(boxes).T
    assert (x2 - x1 == y2 - y1).all() and (x2 - x1).min() == 28 and (x2 - x1).max() == 40
    assert 0.5 < (x2 - x1 == 40).mean() < 0.55  # of the chosen ones a few lose less than a pixel
    assert x1.min() == y1.min() == 0 and x1.max() > 9 and x2.max() == y2.max() == 40


def test_a_crop_does_not_lose_the_character(tmp_path: Path):
    source = write_sample(tmp_path, "a", (60, 60), {"face": (48, 50, 60, 60)})
    dataset = dataset_2d(source, random_crop=1.0, random_crop_ratio=0.9)
    shares = [dataset[at(index)]["mask"].float().mean().item() for index in range(40)]
    assert min(shares) > 0 and len(set(shares)) > 5


def test_a_page_that_shows_nothing_is_named(tmp_path: Path):
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    page = np.zeros((50, 46, 4), np.uint8)
    write_png(source, page)
    with pytest.raises(InputError, match=r"a\.png: no pixel that shows the character"):
        dataset_2d(source, random_crop=1.0)[at(0)]
    write_png(tmp_path / "a_depth.png", np.zeros((50, 46), np.uint8))
    for dataset in (dataset_2d(source), dataset_3d(source)):
        with pytest.raises(InputError, match=r"a_depth\.png: no pixel has a level above 0"):
            dataset[at(0)]


# --- 3D -----------------------------------------------------------------------------------------


def test_3d_item_shapes_and_ranges(tmp_path: Path):
    item = dataset_3d(two_samples(tmp_path))[at(0)]
    assert {key: (tuple(value.shape), value.dtype) for key, value in tensors(item).items()} == {
        "page": ((4, 32, 32), torch.uint8),
        "frames": ((12, 4, 32, 32), torch.uint8),
        "depths": ((12, 1, 32, 32), torch.float32),
        "masks": ((12, 1, 32, 32), torch.bool),
        "present": ((12,), torch.bool),
    }
    assert item["tags"] == [*HEAD, PAGE] and item["group_index"] == 0 and item["name"] == "a"
    absent = ~item["present"]
    assert absent.sum() == 8 and not item["frames"][absent].any()
    assert (item["depths"][absent] == 1).all() and not item["masks"][absent].any()
    assert torch.equal(item["frames"][-1], item["page"]) and item["present"][-1]


def test_the_page_need_not_be_a_frame(tmp_path: Path):
    source = two_samples(tmp_path)
    with_page, without = dataset_3d(source)[at(0)], dataset_3d(source, page_frame=False)[at(0)]
    assert without["tags"] == list(HEAD)
    assert torch.equal(without["page"], with_page["page"])
    for key in ("frames", "depths", "masks", "present"):
        assert torch.equal(without[key], with_page[key][:-1])


def test_absent_tags_need_not_be_frames(tmp_path: Path):
    source = two_samples(tmp_path)
    every, present = (
        dataset_3d(source, groups=(TAGS_V2,), absent=absent)[at(0)] for absent in (True, False)
    )
    kept = every["present"]
    assert present["tags"] == [tag for tag, p in zip(every["tags"], kept, strict=True) if p]
    assert 1 < len(present["tags"]) < 20 and present["present"].all()
    for key in ("frames", "depths", "masks"):
        assert torch.equal(present[key], every[key][kept])


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(1, 900)), max_size=6),
)
def test_a_level_spreads_to_the_pixels_it_is_nearest_to(
    height: int, width: int, points: list[tuple[int, int, int]]
):
    levels = np.zeros((height, width), np.uint16)
    for row, column, level in points:
        levels[row % height, column % width] = level
    filled = spread(levels)
    assert filled.shape == levels.shape and filled.dtype == levels.dtype
    known = np.argwhere(levels)
    if not len(known):
        assert not filled.any()
        return
    for row, column in np.ndindex(height, width):
        squares = ((known - (row, column)) ** 2).sum(1) ** 0.5
        # OpenCV's distances are right to a few percent.
        near = known[squares <= squares.min() * 1.05]
        assert filled[row, column] in levels[near[:, 0], near[:, 1]]


def test_spread_depths_are_those_of_the_layers_and_go_on(tmp_path: Path):
    """In the page's scale; an absent layer is far still."""
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    plain, wide = (
        dataset_3d(source, target_size=50, groups=(TAGS_V2,), beyond=beyond)[at(0)]
        for beyond in ("far", "nearest")
    )
    has = plain["depths"] < 1
    assert torch.equal(wide["depths"][has], plain["depths"][has])
    assert (wide["depths"][wide["present"]] < 1).all()
    assert (wide["depths"][~wide["present"]] == 1).all()
    assert wide["depths"][11].unique().tolist() == pytest.approx([-1 / 3], abs=1e-6)
    items = [dataset_3d(source, beyond=b).item(at(0)) for b in ("far", "nearest")]
    assert items[0].key(PAGE) != items[1].key(PAGE)


def test_groups_take_turns_by_the_position_in_the_run(tmp_path: Path):
    source = two_samples(tmp_path)
    every = [dataset_3d(source)[at(i, step=s)]["group_index"] for s in range(2) for i in range(4)]
    assert every == [0, 1, 2, 0, 1, 2, 0, 1]
    pairs = dataset_3d(source, ngroup_iters=2)
    assert [pairs[at(index)]["group_index"] for index in range(7)] == [0, 0, 1, 1, 2, 2, 0]


def test_crop_tags_and_skipped_tags_choose_the_box(tmp_path: Path):
    boxes = {"hair": (0, 0, 40, 30), "face": (10, 10, 20, 22), "topwear": (5, 20, 35, 46)}
    source = write_sample(tmp_path, "a", (50, 46), boxes)
    crop_tags = (HEAD[1:], (), ())
    dataset = dataset_3d(source, crop_tags=crop_tags)
    crops = [dataset.item(at(index)).crop for index in range(3)]
    union = (0, 0, 40, 46)
    assert crops == [Crop(box, False) for box in (boxes["face"], boxes["topwear"], union)]
    skipping = dataset_3d(source, crop_skip_tags=("hair",))
    assert skipping.item(at(2)).crop == Crop((5, 10, 35, 46), False)


def test_crops_of_groups_are_shrunk_too(tmp_path: Path):
    """To a square inside the one around the box; the published dataset takes the option in vain."""
    source = write_sample(tmp_path, "a", (50, 46), {"topwear": (5, 20, 35, 46)})
    dataset = dataset_3d(source, groups=(BODY,), random_crop=0.5)
    crops = [dataset.item(at(index)).crop for index in range(400)]
    boxes = [crop.box for crop in crops if isinstance(crop, Crop)]
    shrunk = np.array([box for box in boxes if box != (5, 20, 35, 46)])
    assert 160 < len(shrunk) < 240
    x1, y1, x2, y2 = shrunk.T
    assert (x2 - x1 == y2 - y1).all() and (x2 - x1).min() == 21 and (x2 - x1).max() == 30
    assert shrunk.min(0)[:2].tolist() == [5, 18] and shrunk.max(0)[2:].tolist() == [35, 48]


def test_layers_share_the_scale_of_the_page(tmp_path: Path):
    """A layer is as near as the page where nothing hides it, and never nearer."""
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    item = dataset_3d(source, target_size=50, groups=(TAGS_V2,))[at(0)]
    depths, page = item["depths"][:-1], item["depths"][-1]
    assert item["present"].nonzero().flatten().tolist() == [0, 11, 19]
    assert (depths >= page).all()
    assert torch.equal(depths.amin(0), page)
    # hair is drawn from its two parts: behind topwear and before it
    assert depths[0].unique().tolist() == pytest.approx([-1, 1 / 3, 1], abs=1e-6)
    assert depths[11].unique().tolist() == pytest.approx([-1 / 3, 1], abs=1e-6)


def test_a_sample_without_the_group_is_the_whole_page_and_absent_frames(tmp_path: Path):
    """The published dataset crashes on it."""
    source = write_sample(tmp_path, "a", (50, 46), {"face": (10, 10, 30, 30)})
    item = dataset_3d(source, groups=(BODY,), target_size=50)[at(0)]
    assert item["present"].tolist() == [False] * 8 + [True]
    assert (item["depths"][:-1] == 1).all() and item["depths"][-1].min() < -0.99
    assert item["masks"][-1, 0, 10:30, 12:32].any()


def test_3d_needs_an_annotation(tmp_path: Path):
    source = write_sample(tmp_path, "a", (50, 46), BOXES)
    (tmp_path / "a_ann.json").unlink()
    with pytest.raises(InputError, match=r"a_ann\.json: no such file"):
        dataset_3d(source)[at(0)]


def test_colours_change_alike_in_page_and_frames(tmp_path: Path):
    """Nothing but colour changes, and a layer that is the page stays so."""
    source = write_sample(tmp_path, "a", (50, 46), {"topwear": (0, 0, 46, 50)})
    plain, changed = (
        dataset_3d(source, target_size=50, groups=(BODY,), random_hsv=share)[at(0)]
        for share in (0.0, 1.0)
    )
    assert not torch.equal(plain["page"], changed["page"])
    for key in ("depths", "masks", "present"):
        assert torch.equal(plain[key], changed[key])
    assert torch.equal(plain["frames"][:, 0], changed["frames"][:, 0])
    opaque = changed["frames"][0, 0] == 255
    assert opaque.sum() > 300
    assert torch.equal(changed["frames"][0][:, opaque], changed["page"][:, opaque])


# --- Both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_an_item_is_a_function_of_its_draw(tmp_path: Path, make):
    source = two_samples(tmp_path)
    dataset, other = make(source, **AUGMENTED), make(source, **AUGMENTED)
    draws = [at(index, sample=index % 2) for index in range(6)]
    other[at(9)]
    loader = DataLoader(other, sampler=draws, batch_size=None, num_workers=2)
    items = [dataset[draw] for draw in draws]
    for item, loaded in zip(items, loader, strict=True):
        assert same(item, loaded) and loaded["draw"] == item["draw"]
    assert not any(same(one, two) for one, two in zip(items, items[2:], strict=False))


@pytest.mark.parametrize(
    ("make", "options", "fewest", "most"),
    [
        (dataset_2d, {"random_flip": 0.7}, 4, 4),
        (dataset_3d, {"random_flip": 0.7}, 6, 6),
        (dataset_2d, AUGMENTED, 31, 59),
        (dataset_3d, AUGMENTED, 31, 59),
    ],
)
def test_a_key_tells_pictures_apart(tmp_path: Path, make, options, fewest: int, most: int):
    """Equal keys of one sample go with equal pictures and depths."""
    dataset = make(write_sample(tmp_path, "a", (50, 46), BOXES), **options)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for index in range(60):
        item = dataset.item(at(index))
        found = item.picture(PAGE), item.depth(PAGE)
        known = seen.setdefault(item.key(PAGE), found)
        assert torch.equal(known[0], found[0]) and torch.equal(known[1], found[1])
    assert fewest <= len(seen) <= most


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_choosing_decodes_no_picture(tmp_path: Path, make):
    dataset = make(two_samples(tmp_path), **AUGMENTED)
    before = [dataset.item(at(index)).key(PAGE) for index in range(10)]
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    assert [dataset.item(at(index)).key(PAGE) for index in range(10)] == before


@pytest.mark.parametrize("make", [dataset_2d, dataset_3d])
def test_a_bad_sample_is_named_or_left_out(tmp_path: Path, make):
    """One rule for both; the published 2D dataset tries again forever, the 3D one not at all."""
    pages = [write_sample(tmp_path, name, (50, 46), BOXES) for name in "ab"]
    dataset = make(write_list(tmp_path / "list.txt", pages))
    write_png(tmp_path / "a_depth.png", np.ones((50, 46, 3), np.uint8))
    with pytest.raises(InputError, match=r"a_depth\.png: a depth has one channel"):
        load(dataset, at(0), skip=False)
    loaded = load(dataset, at(0), skip=True)
    assert loaded.item["name"] == "b" and {bad.row for bad in loaded.left_out} == {0}
