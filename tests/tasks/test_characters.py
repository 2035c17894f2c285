"""The stage that draws characters: two sample lists, the same bytes by seed, nothing in common."""

from pathlib import Path

from seethrough.data.avatars import draw_character
from seethrough.data.layout import read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.engine.files import tree_sha256
from seethrough.recipe import evolve
from seethrough.recipes.characters import Characters
from seethrough.tasks.characters import draw
from seethrough.tasks.task import StageResult
from tests.tasks.small import context

STAGE = Characters(train_count=6, test_count=3, size=32)


def run(folder: Path, stage: Characters = STAGE, said: list[str] | None = None) -> StageResult:
    return draw(stage, context(stage, folder, said))


def test_both_lists_hold_whole_samples(tmp_path: Path) -> None:
    said: list[str] = []
    result = run(tmp_path, said=said)
    assert set(result.artifacts) == set(type(STAGE).outputs)
    assert said == ["small: 6 characters to train on, 3 to test on"]
    for name, count in (("train", 6), ("test", 3)):
        pages = read_sample_list(result.artifacts[name])
        assert len(set(pages)) == count
        for page in pages:
            sample = read_sample(page)
            assert sample.size == (32, 32) and sample.page().shape == (32, 32, 4)
            assert {"face", "head", "topwear"} <= set(sample.boxes)
            for tag in sample.boxes:
                assert sample.layer(tag)[..., 3].any()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    other = evolve(STAGE, seed=STAGE.seed + 1)
    for name, stage in (("a", STAGE), ("b", STAGE), ("c", other)):
        run(tmp_path / name, stage)
    first, again, changed = (tree_sha256(tmp_path / name) for name in "abc")
    assert first == again != changed


def test_more_characters_keep_those_before(tmp_path: Path) -> None:
    few, more = run(tmp_path / "few"), run(tmp_path / "more", evolve(STAGE, train_count=8))
    pages = read_sample_list(more.artifacts["train"])
    for page, longer in zip(read_sample_list(few.artifacts["train"]), pages, strict=False):
        assert page.read_bytes() == longer.read_bytes()


def test_train_and_test_share_no_character_and_no_combination(tmp_path: Path) -> None:
    result = run(tmp_path, evolve(STAGE, train_count=40, test_count=20, size=16))
    pages = {
        name: {p.read_bytes() for p in read_sample_list(result.artifacts[name])}
        for name in ("train", "test")
    }
    assert len(pages["train"]) == 40 and len(pages["test"]) == 20
    assert not pages["train"] & pages["test"]
    # The same seeds in both splits, as the stage gives them.
    combinations = {
        split: {draw_character(seed, split, 16).parts for seed in range(60)}
        for split in ("train", "test")
    }
    assert not combinations["train"] & combinations["test"]
