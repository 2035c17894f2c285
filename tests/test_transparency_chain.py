"""The rehearsal of transparency, a few steps a stage: whole, resumed, and cut by ZeRO-3."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from seethrough.recipe import load
from tests.chains import Run, relative_distance, resolve, run_whole, words
from tests.processes import ROOT, Warm

EXPERIMENT = ROOT / "experiments" / "transparency_sd35.py"
STEPS = 4

FLAGS = {
    "scenes.train_count": 6,
    "scenes.validation_count": 2,
    "scenes.test_count": 2,
    "base.layers": 2,
    "scores.tuned_on": 2,
    "scores.hardware.threads": 1,
    **{
        f"{stage}.{path}": value
        for stage in ("vae", "train")
        for path, value in {
            "schedule.max_steps": STEPS,
            "schedule.warmup_steps": 1,
            "schedule.checkpoint_every": 2,
            "schedule.keep_checkpoints": 2,
            "data.global_batch": 4,
            "hardware.micro_batch": 2,
            "hardware.processes": 1,
        }.items()
    },
    "train.schedule.validate_every": STEPS,
    "train.schedule.pictures_every": STEPS,
}

NEVER_READ = {
    "vae.data.validation": "its autoencoder is not validated",
    "*.schedule.cycles": "its schedules are a cosine of one cycle and a wave",
    "*.schedule.power": "and no polynomial",
    "*.schedule.pieces": "nor piecewise",
    "vae.schedule.periods": "nor is the autoencoder's a wave",
    "train.objective.boundary_width": "no pixels are decoded",
    "train.objective.logit_*": "it is no diffusion",
    "train.objective.shift": "nor has it a flow",
    "train.sampler*": "nor steps",
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


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    metrics = {name: whole.metrics(name) for name in whole.resolved.stages}
    assert metrics.keys() == {"scenes", "vae", "base", "prompt", "train", "scores"}
    measured = {"validation/easy/iou", "validation/hard/iou", "validation/mix/mse"}
    assert measured <= metrics["train"].keys()
    assert 0 <= metrics["scores"]["iou"] <= 1 and metrics["scores"]["photos"] == 2
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_a_resumed_stage_ends_in_the_same_bits(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = whole.resumed(tmp_path, "train")
    assert "resumed after step 2" in capsys.readouterr().out
    assert resumed["artifacts"] == whole.record("train")["artifacts"]


def test_zero_3_with_an_offloaded_optimizer_trains_as_one_process(
    whole: Run, warm: Warm, tmp_path: Path
) -> None:
    """As published, on two processes; small parameters are cut too."""
    folder = whole.copied(tmp_path, "scenes", "vae", "base", "prompt")
    cut = {
        "train.deepspeed.zero_stage": 3,
        "train.deepspeed.offload_optimizer": "cpu",
        "train.deepspeed.persistence_threshold": 0,
        "train.hardware.processes": 2,
        "train.hardware.channels_last": "false",
    }
    command = (str(EXPERIMENT), "rehearse", "--only=train", f"--runs={tmp_path}")
    done = warm.run(*command, *words({**FLAGS, **cut}), world=2)
    assert done.codes == [0, 0], done.err
    file = "train/transformer/diffusion_pytorch_model.safetensors"
    assert relative_distance(load_file(whole.folder / file), load_file(folder / file)) < 1e-5


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    assert whole.unread_beyond(NEVER_READ) == []
    assert whole.excused_in_vain(NEVER_READ) == []
