"""The whole published chain of Marigold, a few steps a stage at a small size, by the engine."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seethrough.engine.files import tree_sha256
from seethrough.engine.runner import run
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, read_state_dict
from seethrough.models.small_base import save_small_marigold
from seethrough.recipe import load
from tests.chains import Run, record, resolve, run_whole, words
from tests.processes import ROOT, Warm
from tests.samples import write_list, write_sample

EXPERIMENT = ROOT / "experiments" / "marigold3d_v3.py"
STEPS = 3

NEVER_READ = {
    "*.schedule.power": "the schedule is no polynomial",
    "*.schedule.pieces": "nor piecewise",
    "*.schedule.periods": "nor a wave",
    "*.schedule.cycles": "nor a cosine",
    "*.schedule.floor": "and has no floor",
    "*.objective.timestep_bias_multiplier": "timesteps are uniform",
    "*.objective.timestep_bias_range": "timesteps are uniform",
    "train_2d.hardware.device_memory_gib": "the plan counts the published base's parameters alone",
    "train_2d.hardware.host_memory_gib": "the plan counts the published base's parameters alone",
    "*.hardware.reshard": "the run isn't resumed",
    "*.tracking.project": "it has no tracker",
    "*.deepspeed*": "nor DeepSpeed",
}
"""Paths, and why this run does without reading them."""

TRAINED = ("train_2d", "train_3d")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a list of samples, in place of what the recipe takes from outside."""
    folder = tmp_path_factory.mktemp("inputs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        vae_config: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (4, 4, 8, 8),
            "norm_num_groups": 2,
        }
        AutoencoderKL(**vae_config).save_pretrained(folder / "vae")
    save_small_marigold(
        folder / "base",
        vae=folder / "vae",
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        text_width=12,
    )
    pages = [
        write_sample(folder, name, tags=tags, seed=seed)
        for seed, (name, tags) in enumerate(
            {
                "one": ("back hair", "topwear", "head", "face", "front hair"),
                "two": ("legwear", "topwear", "hair", "face", "mouth"),
            }.items()
        )
    ]
    write_list(folder / "list.txt", pages)
    return folder


def flags(inputs: Path) -> dict[str, object]:
    """What makes the published experiment small, and run in this process."""
    base = f"file:{inputs / 'base'}"
    pages = f"file:{inputs / 'list.txt'}"
    training = {
        "model.base": base,
        "data.sources": f"(({pages}, 1),)",
        "data.validation": pages,
        "data.target_size": 32,
        "data.layer_alpha": "straight",
        "data.global_batch": 4,
        "hardware.micro_batch": 2,
        "hardware.device": "cpu",
        "hardware.threads": 1,
        "hardware.loader_workers": 0,
        "schedule.max_steps": STEPS,
        "schedule.warmup_steps": 1,
        "schedule.checkpoint_every": 2,
        "schedule.validate_every": STEPS,
        "schedule.pictures_every": STEPS,
        "schedule.log_every": 1,
        "tracking.tracker": "none",
    }
    measuring = {
        "base": base,
        "pages": pages,
        "known": pages,
        "layer_alpha": "straight",
        "resolution": 32,
        "precision": "fp32",
        "hardware.device": "cpu",
        "hardware.threads": 1,
    }
    return {
        **{f"{stage}.{path}": value for stage in TRAINED for path, value in training.items()},
        **{f"depth_order.{path}": value for path, value in measuring.items()},
    }


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seethrough.tasks.latent_diffusion.VALIDATION_PLACES", 4)
        return run_whole(resolve(load(EXPERIMENT), flags(inputs)), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def finished(whole: Run) -> Path:
    """The folder of a finished run."""
    return whole.folder


def state(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    return read_state_dict(folder / stage / "unet")


def test_every_stage_leaves_a_record_of_what_it_was_made_from(finished: Path) -> None:
    for stage in ("train_2d", "inflate", "train_3d"):
        left = record(finished, stage)
        (artifact,) = left["artifacts"].values()
        assert artifact["sha256"] == tree_sha256(finished / stage / artifact["path"])
    measured = record(finished, "depth_order")
    assert measured["artifacts"].keys() == {"scores", "table"}
    assert 0 <= measured["metrics"]["model_all_pairs"] <= 1 and measured["metrics"]["pairs"] > 0
    assert measured["inputs"]["unet"]["source"] == "stage:train_3d/unet"
    made = record(finished, "train_3d")["inputs"]["model.unet"]
    assert made["source"] == "stage:inflate/unet"
    assert made["content"] == record(finished, "inflate")["artifacts"]["unet"]["sha256"]


def test_each_stage_starts_from_the_weights_of_the_one_before(inputs: Path, finished: Path) -> None:
    """The published 3D program starts from a copy on the hub, whatever was converted."""
    base = read_state_dict(inputs / "base" / "unet")
    trained, inflated = state(finished, "train_2d"), state(finished, "inflate")
    final = state(finished, "train_3d")
    assert trained.keys() == base.keys()
    assert not torch.equal(trained["conv_out.weight"], base["conv_out.weight"])
    assert record(finished, "inflate")["metrics"] == {"max_difference": 0.0}
    assert all(torch.equal(inflated[key], value) for key, value in trained.items())
    assert final.keys() == inflated.keys()
    # The page's channels come first; the others moved by no more than three steps can.
    assert final["conv_in.weight"].shape[1] == 12
    before = torch.cat([torch.zeros(8, 4, 3, 3), inflated["conv_in.weight"]], 1)
    moved = (final["conv_in.weight"] - before).abs()
    assert 0 < moved.max() <= 1.1 * STEPS * 4e-5 and moved[:, :4].any()
    assert all(
        (final[key] - value).abs().max() <= 1.1 * STEPS * 4e-5 + 1e-6 * value.abs().max()
        for key, value in inflated.items()
        if key != "conv_in.weight"
    )
    model = load_model(UNetFrameConditionModel, finished / "train_3d" / "unet")
    assert model.config["tag_version"] == "v2" and not model.config["group_embedding"]


@pytest.mark.parametrize("stage", TRAINED)
def test_training_logs_its_loss_and_that_of_held_out_pages(finished: Path, stage: str) -> None:
    lines = [json.loads(line) for line in (finished / stage / "log.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == STEPS and all(0 < loss < 100 for loss in losses)
    validated = [line for line in lines if "validation/loss" in line]
    assert len(validated) == 1 and 0 < validated[0]["validation/loss"] < 100


def test_a_resumed_stage_ends_in_the_same_bits(
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("seethrough.tasks.latent_diffusion.VALIDATION_PLACES", 4)
    resumed = whole.resumed(tmp_path, "train_3d")
    assert "resumed after step 2" in capsys.readouterr().out
    assert resumed["artifacts"] == whole.record("train_3d")["artifacts"]


def test_a_base_of_another_family_is_refused(inputs: Path, tmp_path: Path) -> None:
    """In words, before a step is made."""
    other = tmp_path / "other"
    shutil.copytree(inputs / "base", other)
    shutil.rmtree(other / "scheduler")
    bases = ("train_2d.model.base", "train_3d.model.base", "depth_order.base")
    resolved = resolve(load(EXPERIMENT), flags(inputs) | dict.fromkeys(bases, f"file:{other}"))
    with pytest.raises(InputError, match="no subfolder 'scheduler'"):
        run(resolved, tmp_path)


def test_two_processes_train_and_one_measures_depth(
    inputs: Path, warm: Warm, tmp_path: Path
) -> None:
    """What the main process does alone must not wait for the other."""
    two = flags(inputs) | {"train_2d.hardware.processes": 2}
    done = warm.run(str(EXPERIMENT), "--only=train_2d", f"--runs={tmp_path}", *words(two), world=2)
    assert done.codes == [0, 0], done.err
    log = (tmp_path / "marigold3d_v3" / "train_2d" / "log.jsonl").open()
    (validated,) = [line for line in map(json.loads, log) if "validation/loss" in line]
    assert 0 <= validated["validation/depth/least_squares/abs_rel"] < 100


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    assert whole.unread_beyond(NEVER_READ) == []
    assert whole.excused_in_vain(NEVER_READ) == []
