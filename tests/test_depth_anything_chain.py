"""The rehearsal of Depth Anything's adapter, a few steps a stage: whole, resumed, and every field
read."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from seethrough.recipe import flatten, load
from tests.chains import Run, resolve, run_whole
from tests.processes import ROOT

EXPERIMENT = ROOT / "experiments" / "depth_anything_adapter.py"
STEPS = 4

MARGIN = 0.1
"""By what share the network's RMSE of characters that it has not seen lies below that of the mean
depth by place, at least, when the whole rehearsal is run: its last stage says whether it does."""

FLAGS = {
    "characters.train_count": 12,
    "characters.test_count": 4,
    "base.model.width": 32,
    "base.model.heads": 2,
    "base.model.patch": 4,
    "base.model.out_channels": (16, 16, 16, 16),
    "scores.target_size": 32,
    "scores.hardware.threads": 1,
    **{
        f"{stage}.{path}": value
        for stage in ("base", "train")
        for path, value in {
            "schedule.warmup_steps": 1,
            "schedule.keep_checkpoints": 2,
            "data.global_batch": 8,
            "data.target_size": 32,
            "hardware.micro_batch": 4,
            # In this process: reads in others are not seen.
            "hardware.processes": 1,
        }.items()
    },
    "base.schedule.max_steps": STEPS,
    "base.schedule.checkpoint_every": STEPS,
    "train.schedule.max_steps": STEPS,
    "train.schedule.checkpoint_every": 2,
    "train.schedule.validate_every": STEPS,
    "train.schedule.pictures_every": STEPS,
}

NEVER_READ = {
    "train.schedule.cycles": "a constant has no cycles",
    "train.schedule.floor": "nor a floor",
    "*.schedule.power": "no schedule is a polynomial",
    "*.schedule.pieces": "nor piecewise",
    "*.schedule.periods": "nor a wave",
    "train.model.*": "the base's weights tell the network's sizes",
    "*.hardware.reshard": "its stages are not resumed",
    "*.hardware.device_memory_gib": "the plan counts no parameters of new networks",
    "*.hardware.host_memory_gib": "nor what they take of the host",
    "*.tracking.project": "it has no tracker",
    "*.deepspeed*": "nor DeepSpeed",
}
"""Paths, and why this run does without reading them."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    resolved = resolve(load(EXPERIMENT).rehearsal(), FLAGS)
    return run_whole(resolved, tmp_path_factory.mktemp("runs"))


def test_the_margin_was_written_down_first() -> None:
    scores = load(EXPERIMENT).rehearsal().resolve().stages["scores"]
    assert flatten(scores)["margin"] == MARGIN


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    assert {
        "loss/gradient_matching", "loss/affine_invariant", "validation/depth/least_squares/rmse",
        "validation/controlled_depth/median/rmse",
    } <= whole.metrics("train").keys()  # fmt: skip
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1
    assert json.loads(whole.artifact("scores", "scores").read_text()).keys() == {
        "pages: network", "pages: mean by place", "layers: with control", "layers: without",
    }  # fmt: skip
    scores = whole.metrics("scores")
    # Few steps beat nothing, and that is said.
    assert scores["reached"] == float(scores["rmse"] <= (1 - MARGIN) * scores["mean_rmse"]) == 0


def test_training_goes_on_from_the_bases_weights_with_a_new_adapter(whole: Run) -> None:
    file = "depth_anything/diffusion_pytorch_model.safetensors"
    base, trained = (load_file(whole.folder / stage / file) for stage in ("base", "train"))
    for key, value in base.items():
        name = key.replace("pretrained.", "backbone_ori.").replace("depth_head.", "head_ori.")
        assert (trained[name] - value).abs().max() <= 1.1 * STEPS * 6e-5
    adapter = {key: value for key, value in trained.items() if "controlnet" in key}
    assert adapter["head_adapter.controlnet.conv_out.weight"].any()


def test_a_resumed_stage_ends_in_the_same_bits(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = whole.resumed(tmp_path, "train")
    assert "resumed after step 2" in capsys.readouterr().out
    assert resumed["artifacts"] == whole.record("train")["artifacts"]


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    assert whole.unread_beyond(NEVER_READ) == []
    assert whole.excused_in_vain(NEVER_READ) == []
