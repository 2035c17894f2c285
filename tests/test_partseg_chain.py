"""The rehearsal of part segmentation, a few steps: whole, resumed, on two processes, and used."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from seethrough.partseg.__main__ import main
from seethrough.recipe import flatten, load
from tests.chains import Run, relative_distance, resolve, run_whole, words
from tests.processes import ROOT, Warm

EXPERIMENT = ROOT / "experiments" / "partseg_samhq.py"
STEPS = 4

MARGIN = 0.1
"""How far the mean IoU over tags lies above that of the mean mask of each tag, at least, when the
whole rehearsal is run: its last stage measures it and says whether that is reached."""

FLAGS = {
    "characters.train_count": 6,
    "characters.test_count": 3,
    "sam.width": 32,
    "sam.decoder_width": 32,
    "sam.decoder_mlp_width": 32,
    "scores.hardware.threads": 1,
    "train.schedule.max_steps": STEPS,
    "train.schedule.warmup_steps": 1,
    "train.schedule.checkpoint_every": 2,
    "train.schedule.keep_checkpoints": 2,
    "train.schedule.validate_every": STEPS,
    "train.schedule.pictures_every": STEPS,
    "train.data.global_batch": 4,
    "train.loss.sampling.points": 64,
    "train.hardware.micro_batch": 2,
    # In this process: reads in others are not seen.
    "train.hardware.processes": 1,
}

NEVER_READ = {
    "train.schedule.cycles": "its schedule is a constant",
    "train.schedule.power": "no polynomial",
    "train.schedule.pieces": "not piecewise",
    "train.schedule.periods": "no wave",
    "train.schedule.floor": "and has no floor",
    "train.hardware.reshard": "its stages are not resumed",
    "train.tracking.project": "it has no tracker",
    "train.deepspeed*": "nor DeepSpeed",
}
"""Paths, and why this run does without reading them."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    resolved = resolve(load(EXPERIMENT).rehearsal(), FLAGS)
    return run_whole(resolved, tmp_path_factory.mktemp("runs"))


def test_the_margin_was_written_down_first(whole: Run) -> None:
    assert flatten(whole.resolved.stages["scores"])["margin"] == MARGIN


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    metrics = {name: whole.metrics(name) for name in whole.resolved.stages}
    assert metrics.keys() == {"characters", "sam", "train", "scores"}
    terms = {"loss/bce", "loss/dice", "validation/miou", "validation/accuracy"}
    assert terms <= metrics["train"].keys()
    scores = metrics["scores"]
    assert scores["pages"] == 3
    # Few steps beat nothing, and that is said.
    assert scores["reached"] == float(scores["miou"] - scores["mean_mask_miou"] >= MARGIN)
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_a_resumed_stage_ends_in_the_same_bits(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = whole.resumed(tmp_path, "train")
    assert "resumed after step 2" in capsys.readouterr().out
    assert resumed["artifacts"] == whole.record("train")["artifacts"]


def test_two_processes_under_zero_train_as_one(whole: Run, warm: Warm, tmp_path: Path) -> None:
    """As published, by ZeRO-2."""
    folder = whole.copied(tmp_path, "characters", "sam")
    cut = {
        "train.deepspeed.zero_stage": 2,
        "train.hardware.processes": 2,
        "train.hardware.micro_batch": 1,
        "train.hardware.channels_last": "false",
    }
    command = (str(EXPERIMENT), "rehearse", "--only=train", f"--runs={tmp_path}")
    done = warm.run(*command, *words({**FLAGS, **cut}), world=2)
    assert done.codes == [0, 0], done.err
    file = "train/partseg/model.safetensors"
    assert relative_distance(load_file(whole.folder / file), load_file(folder / file)) < 1e-4


def test_the_runs_model_finds_parts_of_any_picture(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = next((whole.folder / "characters/test").glob("test_00000.png"))
    assert main([str(page), f"--from={whole.folder}", f"--out={tmp_path}"]) == 0
    masks = json.loads((tmp_path / f"{page.name}_masks.json").read_text())
    assert len(masks) == 23 and masks[0]["size"] == [64, 64] and masks[0]["tag"] == "front hair"


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    assert whole.unread_beyond(NEVER_READ) == []
    assert whole.excused_in_vain(NEVER_READ) == []
