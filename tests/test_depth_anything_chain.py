"""The rehearsal of Depth Anything's adapter: it learns, is resumed, and reads its fields."""

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

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "depth_anything_adapter.py"
NAME = "depth_anything_adapter-rehearsal"
STEPS = 4

MARGIN = 0.1
"""By what share the network's RMSE of characters that it has not seen lies below that of the mean
depth by place, at least; in the whole rehearsal and in this shorter one."""

FLAGS = {
    "characters.train_count": 480,
    "characters.test_count": 16,
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
    "base.schedule.warmup_steps": 10,
    "base.schedule.max_steps": 120,
    "base.schedule.checkpoint_every": 120,
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


@attrs.frozen
class Run:
    """A finished rehearsal, and the fields that nothing read."""

    folder: Path
    unread: frozenset[str]


def twin(**values: Any) -> Resolved:
    flags = FLAGS | {path.replace("__", "."): value for path, value in values.items()}
    draft = load(EXPERIMENT).rehearsal()
    return draft.override([(path, str(value)) for path, value in flags.items()]).resolve()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    resolved = twin()
    with tracked_reads(resolved.experiment) as reads:
        run(resolved, runs)
        make_plan(resolved, runs).text(memory=True)
    fields = set(flatten(resolved.experiment)) - set(resolved.stages)
    return Run(runs / NAME, frozenset(fields - set(reads)))


def metrics(folder: Path, stage: str) -> dict[str, float]:
    return json.loads((folder / stage / "record.json").read_text())["metrics"]


def test_it_beats_the_mean_depth_by_place(whole: Run) -> None:
    found = metrics(whole.folder, "scores")
    assert found["rmse"] < (1 - MARGIN) * found["mean_rmse"]


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    trained = metrics(whole.folder, "train")
    assert {
        "loss/gradient_matching", "loss/affine_invariant", "validation/depth/least_squares/rmse",
        "validation/controlled_depth/median/rmse",
    } <= trained.keys()  # fmt: skip
    scores = json.loads((whole.folder / "scores" / "scores.json").read_text())
    assert scores.keys() == {
        "pages: network", "pages: mean by place", "layers: with control", "layers: without",
    }  # fmt: skip
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_training_goes_on_from_the_bases_weights_with_a_new_adapter(whole: Run) -> None:
    file = "depth_anything/diffusion_pytorch_model.safetensors"
    base, trained = (load_file(whole.folder / stage / file) for stage in ("base", "train"))
    for key, value in base.items():
        name = key.replace("pretrained.", "backbone_ori.").replace("depth_head.", "head_ori.")
        assert (trained[name] - value).abs().max() <= 1.1 * STEPS * 6e-5
    adapter = {key: value for key, value in trained.items() if "controlnet" in key}
    assert adapter["head_adapter.controlnet.conv_out.weight"].any()


def test_a_resumed_stage_ends_in_the_same_bits(whole: Run, tmp_path: Path) -> None:
    """Killed after its checkpoint of step 2, training goes on from there."""
    folder = tmp_path / NAME
    shutil.copytree(whole.folder, folder)
    shutil.rmtree(folder / "scores")
    shutil.rmtree(folder / "train/depth_anything")
    (folder / "train/record.json").unlink()
    shutil.rmtree(folder / f"train/checkpoints/step-{STEPS:08d}")
    run(twin(), tmp_path, only="train")
    trained = (tree_sha256(place / "train/depth_anything") for place in (folder, whole.folder))
    assert len(set(trained)) == 1


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    excused = {p for p in whole.unread if any(fnmatch(p, pattern) for pattern in NEVER_READ)}
    assert not sorted(whole.unread - excused), "fields that nothing reads"
    stale = [p for p in NEVER_READ if not any(fnmatch(path, p) for path in whole.unread)]
    assert not stale, "excused, but read after all"
