"""The rehearsal of part segmentation, a few steps: whole, resumed, on two processes, and used."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file

from seethrough.engine.files import tree_sha256
from seethrough.engine.plan import make_plan
from seethrough.engine.runner import run
from seethrough.partseg.__main__ import main
from seethrough.recipe import Resolved, flatten, load, tracked_reads
from tests.engine.conftest import ROOT, Warm

EXPERIMENT = ROOT / "experiments" / "partseg_samhq.py"
NAME = "partseg_samhq-rehearsal"
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


@attrs.frozen
class Run:
    """A finished rehearsal, and the fields that nothing read."""

    folder: Path
    unread: frozenset[str]


def twin() -> Resolved:
    draft = load(EXPERIMENT).rehearsal()
    return draft.override([(path, str(value)) for path, value in FLAGS.items()]).resolve()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    resolved = twin()
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


def without_training(whole: Run, runs: Path) -> Path:
    """A copy of the run in which the stages up to training are done."""
    folder = runs / NAME
    shutil.copytree(whole.folder, folder)
    shutil.rmtree(folder / "scores")
    return folder


def test_the_margin_was_written_down_first() -> None:
    assert dict(flatten(twin().stages["scores"]))["margin"] == MARGIN


def test_every_stage_leaves_what_it_measures(whole: Run) -> None:
    metrics = {
        path.parent.name: json.loads(path.read_text())["metrics"]
        for path in whole.folder.glob("*/record.json")
    }
    assert metrics.keys() == {"characters", "sam", "train", "scores"}
    terms = {"loss/bce", "loss/dice", "validation/miou", "validation/accuracy"}
    assert terms <= metrics["train"].keys()
    scores = metrics["scores"]
    assert scores["pages"] == 3
    # Few steps beat nothing, and that is said.
    assert scores["reached"] == float(scores["miou"] - scores["mean_mask_miou"] >= MARGIN)
    assert len(list((whole.folder / "train/pictures").iterdir())) == 1


def test_a_resumed_stage_ends_in_the_same_bits(whole: Run, tmp_path: Path) -> None:
    """Killed after its checkpoint of step 2, training goes on from there."""
    folder = without_training(whole, tmp_path)
    shutil.rmtree(folder / "train/partseg")
    (folder / "train/record.json").unlink()
    shutil.rmtree(folder / f"train/checkpoints/step-{STEPS:08d}")
    run(twin(), tmp_path, only="train")
    trained = (tree_sha256(place / "train/partseg") for place in (folder, whole.folder))
    assert len(set(trained)) == 1


def test_two_processes_under_zero_train_as_one(whole: Run, warm: Warm, tmp_path: Path) -> None:
    """As published, by ZeRO-2."""
    folder = without_training(whole, tmp_path)
    shutil.rmtree(folder / "train")
    cut = {
        "train.deepspeed.zero_stage": 2,
        "train.hardware.processes": 2,
        "train.hardware.micro_batch": 1,
        "train.hardware.channels_last": "false",
    }
    flags = [f"--{path}={value}" for path, value in (FLAGS | cut).items()]
    command = (str(EXPERIMENT), "rehearse", "--only=train", f"--runs={tmp_path}", *flags)
    done = warm.run(*command, world=2)
    assert done.codes == [0, 0], done.err
    one, two = (
        load_file(place / "train/partseg/model.safetensors") for place in (whole.folder, folder)
    )
    assert one.keys() == two.keys()
    size = sum(float(value.norm()) ** 2 for value in one.values()) ** 0.5
    apart = sum(float((value - two[name]).norm()) ** 2 for name, value in one.items()) ** 0.5
    assert apart < 1e-4 * size


def test_the_runs_model_finds_parts_of_any_picture(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = next((whole.folder / "characters/test").glob("test_00000.png"))
    assert main([str(page), f"--from={whole.folder}", f"--out={tmp_path}"]) == 0
    masks = json.loads((tmp_path / f"{page.name}_masks.json").read_text())
    assert len(masks) == 23 and masks[0]["size"] == [64, 64] and masks[0]["tag"] == "front hair"


def test_every_field_of_the_recipe_is_read(whole: Run) -> None:
    excused = {p for p in whole.unread if any(fnmatch(p, pattern) for pattern in NEVER_READ)}
    assert not sorted(whole.unread - excused), "fields that nothing reads"
    stale = [p for p in NEVER_READ if not any(fnmatch(path, p) for path in whole.unread)]
    assert not stale, "excused, but read after all"
