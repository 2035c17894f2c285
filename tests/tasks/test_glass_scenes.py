"""The stage that draws scenes: all splits in one folder of Trans10K."""

from pathlib import Path

from seethrough.data.trans10k import find_pairs
from seethrough.recipes.glass_scenes import GlassScenes
from seethrough.tasks.glass_scenes import draw
from tests.tasks.small import context


def test_all_splits_lie_in_one_folder(tmp_path: Path) -> None:
    stage = GlassScenes(train_count=3, validation_count=2, test_count=4, size=16)
    said: list[str] = []
    result = draw(stage, context(stage, tmp_path, said))
    assert set(result.artifacts) == set(type(stage).outputs)
    root = result.artifacts["scenes"]
    counts = [len(find_pairs(root, split)) for split in ("train", "validation", "test")]
    assert counts == [3, 2, 4]
    assert said == ["small: 3 scenes to train on, 2 to validate with, 4 to test on"]
