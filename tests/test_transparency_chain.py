"""The rehearsal of transparency, a few steps a stage: whole, resumed, and cut by ZeRO-3."""

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
from seethrough.recipe import Resolved, load, tracked_reads

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "transparency_sd35.py"
NAME = "transparency_sd35-rehearsal"
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
    leaves = {
        f"{name}.{path}" for name, stage in resolved.stages.items() for path in leaf_paths(stage)
    }
    return Run(runs / NAME, frozenset(leaves - reads))


def leaf_paths(stage: Any) -> set[str]:
    from seethrough.recipe import flatten

    return {path for path, value in flatten(stage).items() if not isinstance(value, type)}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "train/transformer/diffusion_pytorch_model.safetensors")


def without_training(whole: Run, runs: Path) -> Path:
    """A copy of the run in which the stages up to training are done."""
    folder = runs / NAME
    shutil.copytree(whole.folder, folder)
    shutil.rmtree(folder / "scores")
    return folder


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    metrics = {
        path.parent.name: json.loads(path.read_text())["metrics"]
        for path in whole.folder.glob("*/record.json")
    }
    assert metrics.keys() == {"scenes", "vae", "base", "prompt", "train", "scores"}
    assert {"validation/easy/iou", "validation/hard/iou", "validation/mix/mse"} <= metrics[
        "train"
    ].keys()
    assert 0 <= metrics["scores"]["iou"] <= 1 and metrics["scores"]["photos"] == 2
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_a_resumed_stage_ends_in_the_same_bits(whole: Run, tmp_path: Path) -> None:
    """Killed after its checkpoint of step 2, training goes on from there."""
    folder = without_training(whole, tmp_path)
    shutil.rmtree(folder / "train/transformer")
    (folder / "train/record.json").unlink()
    shutil.rmtree(folder / f"train/checkpoints/step-{STEPS:08d}")
    run(twin(), tmp_path, only="train")
    trained = (tree_sha256(place / "train/transformer") for place in (folder, whole.folder))
    assert len(set(trained)) == 1


def test_zero_3_with_an_offloaded_optimizer_trains_as_one_process(
    whole: Run, tmp_path: Path
) -> None:
    """As published, on two processes; small parameters are cut too."""
    folder = without_training(whole, tmp_path)
    shutil.rmtree(folder / "train")
    cut = twin(
        train__deepspeed__zero_stage=3,
        train__deepspeed__offload_optimizer="cpu",
        train__deepspeed__persistence_threshold=0,
        train__hardware__processes=2,
        train__hardware__channels_last="false",
    )
    run(cut, tmp_path, only="train")
    one, two = weights(whole.folder), weights(folder)
    assert one.keys() == two.keys()
    size = sum(float(value.norm()) ** 2 for value in one.values()) ** 0.5
    apart = sum(float((value - two[name]).norm()) ** 2 for name, value in one.items()) ** 0.5
    assert apart < 1e-5 * size


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    excused = {p for p in whole.unread if any(fnmatch(p, pattern) for pattern in NEVER_READ)}
    assert not sorted(whole.unread - excused), "fields that nothing reads"
    stale = [p for p in NEVER_READ if not any(fnmatch(path, p) for path in whole.unread)]
    assert not stale, "excused, but read after all"
