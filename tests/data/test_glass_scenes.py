"""The embedded scenes: Trans10K's layout, objects that can be seen, and no photograph twice."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.data.glass_objects import draw_glass, place_glass
from seethrough.data.glass_scenes import PHOTOGRAPHS, draw_scene, photograph, write_scenes
from seethrough.data.trans10k import SPLITS, find_pairs, read_pair
from seethrough.engine.files import tree_sha256


def test_no_photograph_serves_two_splits():
    names = [name for split in SPLITS for name in PHOTOGRAPHS[split]]
    assert len(names) == len(set(names)) and all(PHOTOGRAPHS[split] for split in SPLITS)


@pytest.mark.parametrize("name", sorted({name for split in PHOTOGRAPHS.values() for name in split}))
def test_photographs_come_with_the_packages(name: str):
    picture = photograph(name)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and min(picture.shape[:2]) >= 300


def test_scenes_are_pairs_of_trans10k(tmp_path: Path):
    for split, count in zip(SPLITS, (3, 4, 5), strict=True):
        write_scenes(tmp_path, split, count, 32, seed=1)
    difficulties = {
        split: [pair.difficulty for pair in find_pairs(tmp_path, split)] for split in SPLITS
    }
    assert difficulties == {
        "train": [None] * 3,
        "validation": ["easy"] * 2 + ["hard"] * 2,
        "test": ["easy"] * 3 + ["hard"] * 2,
    }
    for split in SPLITS:
        for pair in find_pairs(tmp_path, split):
            photo, mask = read_pair(pair)
            assert photo.shape == (32, 32, 3) and mask.any() and mask.max() <= 2
            assert pair.name.split("_")[1] in PHOTOGRAPHS[split]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    for name, count, seed in (("a", 2, 1), ("b", 2, 1), ("c", 2, 2), ("d", 3, 1)):
        write_scenes(tmp_path / name, "train", count, 24, seed)
    first, again, other = (tree_sha256(tmp_path / name) for name in "abc")
    assert first == again != other
    for few in (tmp_path / "a").rglob("*.*"):
        more = tmp_path / "d" / few.relative_to(tmp_path / "a")
        assert more.read_bytes() == few.read_bytes()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**63))
def test_only_what_the_mask_says_has_changed(seed: int):
    """An object is seen where it is, if faintly, and nothing else moves."""
    random = np.random.default_rng(seed)
    before = random.random((64, 64, 3)).astype(np.float32)
    glass = draw_glass(random, visibility=0.5)
    after, coverage = place_glass(before, glass)
    assert after.min() >= 0 and after.max() <= 1 and 0 <= coverage.min() <= coverage.max() <= 1
    assert np.array_equal(after[coverage == 0], before[coverage == 0])
    inside = coverage > 0.5
    assert 0.005 < inside.mean() < 0.9
    assert np.abs(after - before)[inside].mean() > 0.02


def test_easy_objects_are_easier_to_see():
    def change(visibility: float) -> float:
        """How far colours are from those of the flat ground, where only looks can tell."""
        ground = np.full((48, 48, 3), 0.4, np.float32)
        changes = []
        for seed in range(20):
            after, cover = place_glass(ground, draw_glass(np.random.default_rng(seed), visibility))
            changes.append(np.abs(after - ground)[cover > 0.5].mean())
        return float(np.mean(changes))

    assert change(0.0) < 1e-6 < change(0.6) < change(0.9)


def test_difficulties_differ_in_visibility_alone():
    easy, hard = (draw_scene(5, "test", difficulty, 32) for difficulty in ("easy", "hard"))
    assert np.array_equal(easy.mask, hard.mask) and easy.photograph == hard.photograph
    assert not np.array_equal(easy.photo, hard.photo)
