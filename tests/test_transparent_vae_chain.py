"""The rehearsal of the transparent VAE with a discriminator, a few steps a stage: whole, resumed,
and every field read."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file

from seethrough.engine.files import tree_sha256
from seethrough.engine.plan import make_plan
from seethrough.engine.runner import run
from seethrough.recipe import Resolved, flatten, load, tracked_reads

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments/transparent_vae_adversarial.py"
NAME = "transparent_vae_adversarial-rehearsal"

STEPS = 4

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
            "schedule.validate_every": STEPS,
            "data.global_batch": 4,
            "data.target_size": 32,
            "hardware.micro_batch": 2,
            "hardware.processes": 1,
        }.items()
    },
    "train.schedule.pictures_every": STEPS,
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


@attrs.frozen
class Run:
    """A finished rehearsal, and the fields that nothing read."""

    folder: Path
    unread: frozenset[str]

    def metrics(self, stage: str) -> dict[str, float]:
        return json.loads((self.folder / stage / "record.json").read_text())["metrics"]


def twin() -> Resolved:
    draft = load(EXPERIMENT).rehearsal()
    return draft.override([(path, str(value)) for path, value in FLAGS.items()]).resolve()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    runs, resolved = tmp_path_factory.mktemp("runs"), twin()
    with tracked_reads(resolved.experiment) as reads:
        run(resolved, runs)
        make_plan(resolved, runs).text(memory=True)
    leaves = {
        f"{name}.{path}"
        for name, stage in resolved.stages.items()
        for path, value in flatten(stage).items()
        if not isinstance(value, type)
    }
    return Run(runs / NAME, frozenset(leaves - reads))


def test_both_stages_are_measured_on_the_same_characters(whole: Run) -> None:
    before, after = whole.metrics("vae"), whole.metrics("train")
    assert before.keys() >= {"validation/alpha_mae"}
    assert after.keys() >= {
        "validation/alpha_mae", "validation/composite_mae", "validation/identity_mae",
        "loss/adversarial", "loss/adversarial_weight", "loss/codes_used", "opponent/loss",
    }  # fmt: skip
    # The offset encoder is new and frozen: it gives no offset.
    assert after["validation/identity_mae"] == 0
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_what_is_frozen_stays_and_what_learns_has_the_published_keys(whole: Run) -> None:
    name = "diffusion_pytorch_model.safetensors"
    for network, learns in (("vae", ""), ("transparent_vae", "decoder.model.")):
        old = load_file(whole.folder / "vae" / network / name)
        new = load_file(whole.folder / "train" / network / name)
        assert old.keys() == new.keys()
        for key, value in old.items():
            assert torch.equal(value, new[key]) != bool(learns and key.startswith(learns)), key


def test_a_resumed_stage_ends_in_the_same_bits(whole: Run, tmp_path: Path) -> None:
    """Both players, the codebook and the average go on from the checkpoint in the middle."""
    folder = tmp_path / NAME
    shutil.copytree(whole.folder, folder)
    shutil.rmtree(folder / f"train/checkpoints/step-{STEPS:08d}")
    (folder / "train/record.json").unlink()
    run(twin(), tmp_path, only="train")
    trained = [tree_sha256(place / "train/transparent_vae") for place in (folder, whole.folder)]
    assert trained[0] == trained[1]


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    excused = {p for p in whole.unread if any(fnmatch(p, pattern) for pattern in NEVER_READ)}
    assert not sorted(whole.unread - excused), "fields that nothing reads"
    stale = [p for p in NEVER_READ if not any(fnmatch(path, p) for path in whole.unread)]
    assert not stale, "excused, but read after all"
