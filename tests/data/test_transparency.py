"""The dataset of transparency: photo and mask lie on each other, whatever a draw chose."""

from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from seethrough.data.draws import Draw
from seethrough.data.replacement import load
from seethrough.data.transparency import TransparencyDataset, squeeze
from seethrough.errors import InputError
from tests.data.photos import write_copy, write_mask, write_photo

AUGMENTED = {"random_flip": 0.5, "random_colour": 0.5, "random_blur": 0.3, "random_noise": 0.3}


def dataset(root: Path, **options: Any) -> TransparencyDataset:
    return TransparencyDataset(**{"sources": ((root, 1),), "target_sizes": (16,), **options})


def at(index: int, step: int = 0, sample: int = 0) -> Draw:
    return Draw(seed=5, stage="train", step=step, index=index, sample=sample)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 2, "test/easy": 1, "test/hard": 1}
    return write_copy(tmp_path_factory.mktemp("trans10k"), counts)


def test_item_shapes_and_ranges(copy: Path):
    item = dataset(copy)[at(0)]
    photo, mask = item["photo"], item["mask"]
    assert (tuple(photo.shape), photo.dtype) == ((3, 16, 16), torch.uint8)
    assert (tuple(mask.shape), mask.dtype) == ((16, 16), torch.uint8)
    assert mask.unique().tolist() == [0, 1]
    assert (item["name"], item["difficulty"], item["draw"]) == ("0", None, at(0))


def test_rows_are_those_of_the_split_as_often_as_its_rate(copy: Path):
    assert len(dataset(copy)) == 2 and len(dataset(copy, sources=((copy, 3),))) == 6
    tested = dataset(copy, split="test")
    assert [tested[at(0, sample=row)]["difficulty"] for row in (0, 1)] == ["easy", "hard"]
    assert len(dataset(copy, split="test", difficulty="hard")) == 1
    assert tested.pair(1).photo == copy / "test/hard/images/0.jpg"


def test_classes_are_merged_or_apart(tmp_path: Path):
    photo = np.full((16, 16, 3), 99, np.uint8)
    classes = (np.arange(256) % 3).reshape(16, 16).astype(np.uint8)
    write_photo(tmp_path / "train/images/a.jpg", photo)
    write_mask(tmp_path / "train/masks/a_mask.png", classes)
    apart = dataset(tmp_path, classes_apart=True)[at(0)]["mask"]
    assert apart.tolist() == classes.tolist()
    assert dataset(tmp_path)[at(0)]["mask"].tolist() == (classes > 0).tolist()


def test_versions_mix_only_with_classes_merged(copy: Path, tmp_path: Path):
    sources = ((copy, 1), (write_copy(tmp_path, {"train": 1}, "v2"), 1))
    assert len(dataset(copy, sources=sources)) == 3
    with pytest.raises(InputError, match="both versions"):
        dataset(copy, sources=sources, classes_apart=True)


def test_squeezing_is_opencvs_linear_and_nearest():
    """Number 8 of the parity tests."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (333, 500, 3), np.uint8)
    mask = random.integers(0, 3, (333, 500), np.uint8)
    small, classes = squeeze(photo, mask, 128)
    assert np.array_equal(small, cv2.resize(photo, (128, 128), interpolation=cv2.INTER_LINEAR))
    assert classes.shape == (128, 128) and set(np.unique(classes)) == {0, 1, 2}


@settings(max_examples=30)
@given(index=st.integers(0, 10**6), side=st.sampled_from((16, 24, 32)))
def test_photo_and_mask_stay_aligned(copy: Path, index: int, side: int):
    """What is bright is transparent, with its edges no sharper than the noise and blur leave."""
    options = {**AUGMENTED, "random_blur": 0.0, "random_noise": 0.0, "target_sizes": (side,)}
    item = dataset(copy, **options)[at(index)]
    bright = item["photo"].float().mean(0) > 125
    assert (bright != item["mask"].bool()).float().mean() < 0.08


def test_mirroring_is_the_same_for_both(copy: Path):
    # Nothing is resized from left to right.
    plain, flipped = (dataset(copy, target_sizes=(32,), random_flip=p)[at(3)] for p in (0.0, 1.0))
    for key in ("photo", "mask"):
        assert torch.equal(flipped[key], plain[key].flip(-1))
        assert not torch.equal(flipped[key], plain[key])


def test_several_sizes_take_turns_by_step(copy: Path):
    """One batch has one size: all its draws agree, on whatever rank."""
    sizes = (16, 24, 32)
    several = dataset(copy, target_sizes=sizes)
    sides = [{several.side(at(index, step, index % 2)) for index in range(4)} for step in range(40)]
    assert all(len(side) == 1 for side in sides) and set().union(*sides) == set(sizes)
    assert several[at(0, step=1)]["photo"].shape[-1] == several.side(at(0, step=1))


def test_an_item_is_a_function_of_its_draw(copy: Path):
    options = {**AUGMENTED, "target_sizes": (16, 24)}
    draws = [at(index, step=index // 2, sample=index % 2) for index in range(6)]
    loader = DataLoader(dataset(copy, **options), sampler=draws, batch_size=None, num_workers=2)
    for draw, loaded in zip(draws, loader, strict=True):
        item = dataset(copy, **options)[draw]
        assert torch.equal(item["photo"], loaded["photo"])
        assert torch.equal(item["mask"], loaded["mask"])


def test_a_bad_pair_is_named_or_left_out(tmp_path: Path):
    root = write_copy(tmp_path, {"train": 2})
    (root / "train/images/0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"images/0\.jpg: broken image"):
        load(dataset(root), at(0), skip=False)
    loaded = load(dataset(root), at(0), skip=True)
    assert loaded.item["name"] == "1" and {bad.row for bad in loaded.left_out} == {0}


def test_bad_sources_are_errors(copy: Path):
    with pytest.raises(InputError, match="no folder of Trans10K"):
        dataset(copy, sources=())
    with pytest.raises(InputError, match="rate 0"):
        dataset(copy, sources=((copy, 0),))


def test_nothing_changes_at_random_unless_asked(copy: Path):
    plain = dataset(copy)
    change = plain.change(at(0))
    assert (change.flip, change.colour, change.blur, change.noise) == (False, None, None, None)
    assert torch.equal(plain[at(0)]["photo"], attrs.evolve(plain)[at(7)]["photo"])
