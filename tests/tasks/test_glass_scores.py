"""The stage that measures a model of transparency: every test photo, beside the threshold."""

import json
from pathlib import Path

import pytest

from seethrough.data.glass_scenes import write_scenes
from seethrough.data.trans10k import find_pairs, read_pair
from seethrough.metrics.glass_baseline import ThresholdBaseline, tune
from seethrough.recipe import Local
from seethrough.recipes.glass_scores import GlassScores
from seethrough.tasks.glass_scores import measure
from tests.tasks.small import context
from tests.tasks.small_sd3 import SIDE, write_small_sd3


def test_both_are_measured_on_the_same_photos(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", "train", 6, 32, seed=1)
    write_scenes(tmp_path / "scenes", "test", 5, 32, seed=1)
    small = write_small_sd3(tmp_path)
    base = Local(str(small.base))
    stage = GlassScores(
        scenes=Local(str(tmp_path / "scenes")),
        transformer=base,
        base=base,
        prompt=Local(str(small.prompt)),
        resolution=SIDE,
        tuned_on=1,
        photos_at_once=2,
    )
    said: list[str] = []
    result = measure(stage, context(stage, tmp_path, said))
    scores = json.loads(result.artifacts["scores"].read_text())
    for system in ("model", "tuned threshold"):
        parts = scores[system]
        assert [parts[name]["images"] for name in ("easy", "hard", "mix")] == [3, 2, 5]
        mean = (3 * parts["easy"]["iou"] + 2 * parts["hard"]["iou"]) / 5
        assert parts["mix"]["iou"] == pytest.approx(mean)
        assert f"{system}, mix" in said[0]
    assert result.metrics == {
        "iou": scores["model"]["mix"]["iou"],
        "threshold_iou": scores["tuned threshold"]["mix"]["iou"],
        "photos": 5,
    }
    # The threshold saw nothing but the first photo of the training split.
    known = [read_pair(pair) for pair in find_pairs(tmp_path / "scenes", "train")]
    assert ThresholdBaseline(**scores["threshold"]) == tune(known[:1]) != tune(known)
