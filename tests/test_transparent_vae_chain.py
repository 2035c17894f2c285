"""The rehearsal of the transparent VAE with a discriminator, a few steps a stage: whole, resumed,
and every field read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seethrough.checkpoint.__main__ import main as convert
from seethrough.recipe import flatten, load
from tests.chains import Run, resolve, run_whole
from tests.processes import ROOT

EXPERIMENT = ROOT / "experiments" / "transparent_vae_adversarial.py"
STEPS = 4

MARGIN = 0.2
"""By what share the whole rehearsal's training lowers the error of alpha of characters that it has
not seen, at least, while their IoU doesn't fall. Written down before it was ever reached."""

FLAGS: dict[str, Any] = {
    "characters.train_count": 8,
    "characters.test_count": 2,
    **{
        f"{stage}.{path}": value
        for stage in ("vae", "train")
        for path, value in {
            "schedule.max_steps": STEPS,
            "schedule.warmup_steps": 1,
            "schedule.checkpoint_every": STEPS // 2,
            "schedule.keep_checkpoints": 2,
            "data.global_batch": 4,
            "data.target_size": 32,
            "hardware.micro_batch": 2,
            "hardware.processes": 1,
        }.items()
    },
    "train.schedule.validate_every": STEPS,
    "train.schedule.pictures_every": STEPS,
    "train.latent_noise.probability": 0.5,
    "train.latent_noise.below_step": 300,
    "train.loss.alpha_reweight": 1.5,
    "scores.target_size": 32,
    "scores.hardware.threads": 1,
    "train.adversarial.layers": 2,
    "train.kepler.weight": 0.01,
}

NEVER_READ = {
    "*.schedule.cycles": "one schedule is a cosine of one cycle, the other constant",
    "*.schedule.floor": "a constant rate has no floor",
    "*.schedule.power": "no schedule is a polynomial",
    "*.schedule.pieces": "nor piecewise",
    "*.schedule.periods": "nor a wave",
    "train.loss.vgg16": "no network of perception is there",
    "train.loss.convnext_tiny": "no network of perception is there",
    "vae.data.validation": "it is measured behind the training, by the same measure",
    "train.model.vae_*": "its networks are given, with widths of their own",
    "train.model.*coder_*": "its networks are given, with widths of their own",
    "train.model.initial_log_variance": "its networks are given",
    "train.model.scaled_std": "its networks are given",
    "*.hardware.reshard": "no stage is resumed here",
    "*.hardware.device_memory_gib": "the plan counts no parameters of these networks",
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


def test_both_are_measured_on_the_same_characters(whole: Run) -> None:
    scores, after = whole.metrics("scores"), whole.metrics("train")
    names = ("alpha_mae", "alpha_iou", "color_mae")
    assert all(0 <= scores[f"{name}_{when}"] < 1 for name in names for when in ("before", "after"))
    assert scores["alpha_mae_before"] != scores["alpha_mae_after"] > 0
    fallen = scores["alpha_mae_after"] <= (1 - MARGIN) * scores["alpha_mae_before"]
    kept = scores["alpha_iou_after"] >= scores["alpha_iou_before"]
    # Few steps reach nothing, and that is said.
    assert scores["reached"] == float(fallen and kept)
    assert after.keys() >= {
        "validation/alpha_mae", "validation/composite_mae", "validation/identity_mae",
        "loss/adversarial", "loss/adversarial_weight", "loss/codes_used", "opponent/loss",
    }  # fmt: skip
    # The offset encoder is new and frozen: it gives no offset.
    assert after["validation/identity_mae"] == 0
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_what_was_trained_becomes_one_checkpoint_as_published(whole: Run, tmp_path: Path) -> None:
    file, split = tmp_path / "checkpoint-4.safetensors", tmp_path / "split"
    stage = str(whole.folder / "train")
    assert convert(["convert", stage, str(file)]) == 0
    assert convert(["convert", str(file), str(split), f"--config={stage}"]) == 0
    for old, new in (("vae", "vae"), ("transparent_vae", "trans_vae")):
        name = "diffusion_pytorch_model.safetensors"
        left, found = load_file(whole.folder / "train" / old / name), load_file(split / new / name)
        assert left.keys() == found.keys()
        assert all(torch.equal(value, found[key]) for key, value in left.items())


def test_what_is_frozen_stays_and_what_learns_has_the_published_keys(whole: Run) -> None:
    name = "diffusion_pytorch_model.safetensors"
    for network, learns in (("vae", ""), ("transparent_vae", "decoder.model.")):
        old = load_file(whole.folder / "vae" / network / name)
        new = load_file(whole.folder / "train" / network / name)
        assert old.keys() == new.keys()
        for key, value in old.items():
            assert torch.equal(value, new[key]) != bool(learns and key.startswith(learns)), key


def test_a_resumed_stage_ends_in_the_same_bits(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both players, the codebook and the average go on from the checkpoint in the middle."""
    resumed = whole.resumed(tmp_path, "train")
    assert "resumed after step 2" in capsys.readouterr().out
    assert resumed["artifacts"] == whole.record("train")["artifacts"]


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    assert whole.unread_beyond(NEVER_READ) == []
    assert whole.excused_in_vain(NEVER_READ) == []
