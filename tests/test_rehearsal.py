"""The rehearsal of the published recipe, a few steps a stage, through the engine itself."""

import json
import re
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from psd_tools import PSDImage

from seethrough.data.layout import Sample, read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.data.tags import HEAD, TAGS_V3, TRAINING_TAGS
from seethrough.engine.files import tree_sha256
from seethrough.engine.plan import make_plan
from seethrough.engine.runner import run
from seethrough.inference.composite import drawing_order
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import empty_model, load_model, read_config, read_state_dict
from seethrough.recipe import (
    Hub,
    Resolved,
    flatten,
    identity_values,
    load,
    show_value,
    tracked_reads,
)
from seethrough.recipes.layerdiff_rehearsal import LayerDiff3DRehearsal
from tests.processes import ENVIRONMENT, ROOT, free_port

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "layerdiff3d_v3.py"
TRAINED = ("vae", "train_2d", "train_3d")
STEPS, BATCH, TRAIN, TEST = 4, 4, 24, 4

OVERRIDES = {
    "characters.train_count": TRAIN,
    "characters.test_count": TEST,
    **{
        f"{stage}.{path}": value
        for stage in TRAINED
        for path, value in {
            "schedule.max_steps": STEPS,
            "schedule.warmup_steps": 1,
            "schedule.checkpoint_every": 2,
            "data.global_batch": BATCH,
            "hardware.micro_batch": BATCH // 2,
            # In this process: reads in others are not seen.
            "hardware.processes": 1,
            "hardware.threads": 1,
        }.items()
    },
    "decompose.sampler.steps": 2,
    "decompose.pages_at_once": 2,
    "decompose.hardware.threads": 1,
}

NEVER_READ = {
    "*.schedule.power": "the rehearsal's schedules are no polynomial",
    "*.schedule.pieces": "nor piecewise",
    "*.schedule.periods": "nor a wave",
    "train_?d.schedule.cycles": "constant has no cycles",
    "train_?d.schedule.floor": "constant has no floor",
    "*.objective.timestep_bias_multiplier": "timesteps are uniform",
    "*.objective.timestep_bias_range": "timesteps are uniform",
    "vae.data.validation": "a rehearsal doesn't validate its autoencoders",
    "*.hardware.reshard": "a rehearsal isn't resumed",
    "vae.hardware.device_memory_gib": "the plan counts no parameters of new networks",
    "vae.hardware.host_memory_gib": "the plan counts no parameters of new networks",
    "*.tracking.project": "a rehearsal has no tracker",
    "*.deepspeed*": "the place of DeepSpeed; the one value that is accepted asks for nothing",
}
"""Paths, and why a rehearsal does without reading them."""


@attrs.frozen
class Rehearsed:
    """A finished rehearsal."""

    resolved: Resolved
    runs: Path
    reads: frozenset[str]
    plan: str
    """The plan's text as it was before the run."""

    @property
    def folder(self) -> Path:
        return self.runs / self.resolved.name

    def record(self, stage: str) -> dict[str, Any]:
        return json.loads((self.folder / stage / "record.json").read_text())

    def artifact(self, stage: str, name: str) -> Path:
        return self.folder / stage / self.record(stage)["artifacts"][name]["path"]


def twin() -> Resolved:
    flags = [(path, str(value)) for path, value in OVERRIDES.items()]
    return load(EXPERIMENT).rehearsal().override(flags).resolve()


@pytest.fixture(scope="session")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("rehearsed")
    resolved = twin()
    plan = make_plan(resolved, runs).text()
    with tracked_reads(resolved.experiment) as reads:
        run(resolved, runs)
        # Also the account of memory, the one reader of a device's size.
        make_plan(resolved, runs).text(memory=True)
    return Rehearsed(resolved, runs, frozenset(reads), plan)


@pytest.fixture(scope="session")
def test_samples(rehearsed: Rehearsed) -> list[Sample]:
    return [read_sample(p) for p in read_sample_list(rehearsed.artifact("characters", "test"))]


def test_every_stage_leaves_its_record(rehearsed: Rehearsed) -> None:
    stages = rehearsed.resolved.stages
    assert list(stages) == [
        "characters", "vae", "base", "train_2d", "inflate", "train_3d", "decompose",
    ]  # fmt: skip
    for name, stage in stages.items():
        record = rehearsed.record(name)
        assert (record["stage"], record["experiment"]) == (name, "layerdiff3d_v3-rehearsal")
        assert record["config"] == identity_values(stage)
        whole = {path: show_value(value) for path, value in flatten(stage).items()}
        assert {**record["config"], **record["execution"]} == whole
        assert re.fullmatch("[0-9a-f]{64}", record["fingerprint"])
        assert set(record["artifacts"]) == set(type(stage).outputs)
        for artifact in record["artifacts"].values():
            assert artifact["sha256"] == tree_sha256(rehearsed.folder / name / artifact["path"])
        assert record["seconds"] > 0
        assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
        assert {"diffusers", "transformers", "accelerate", "safetensors"} <= set(record["versions"])
        git = record["git"]
        assert git["commit"] is None or (len(git["commit"]) == 40 and git["dirty"] in (True, False))
        for read in record["inputs"].values():
            producer, _, artifact = read["source"].removeprefix("stage:").partition("/")
            made = rehearsed.record(producer)
            assert read["identity"] == made["fingerprint"]
            assert read["content"] == made["artifacts"][artifact]["sha256"]
    inputs = rehearsed.record("train_3d")["inputs"]
    # Small bases stand in for pretrained ones.
    assert {path: read["source"] for path, read in inputs.items()} == {
        "data.sources.0.0": "stage:characters/train",
        "model.unet": "stage:inflate/unet",
        "model.base": "stage:base/base",
        "model.transparent_vae": "stage:vae/transparent_vae",
    }


def test_training_logs_its_steps_and_ends_at_the_last(rehearsed: Rehearsed) -> None:
    for name in TRAINED:
        lines = (rehearsed.folder / name / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines][-1] == STEPS
        assert json.loads(lines[-1])["loss"] == rehearsed.record(name)["metrics"]["loss"]
        checkpoints = sorted(p.name for p in (rehearsed.folder / name / "checkpoints").iterdir())
        assert len(checkpoints) == 1 and checkpoints[0].endswith(f"{STEPS}")


def test_the_conversion_is_exact_and_explains_every_key(rehearsed: Rehearsed) -> None:
    assert rehearsed.record("inflate")["metrics"] == {"max_difference": 0.0}
    folder = rehearsed.artifact("inflate", "unet")
    source = read_state_dict(rehearsed.artifact("train_2d", "unet"))
    target = read_state_dict(folder)
    rows = [row.split("\t") for row in (folder / "inflation.tsv").read_text().splitlines()]
    assert rows[0] == ["key", "verdict", "shape"]
    verdicts = {key: (verdict, shape) for key, verdict, shape in rows[1:]}
    assert len(verdicts) == len(rows) - 1
    assert (
        set(verdicts)
        == set(target)
        == set(empty_model(UNetFrameConditionModel, read_config(folder), folder).state_dict())
    )
    for key, (verdict, shape) in verdicts.items():
        assert shape == "x".join(map(str, target[key].shape))
        if verdict == "copied":
            assert torch.equal(target[key], source[key])
        elif verdict == "new and zero":
            assert key not in source and not target[key].any()
        else:
            assert verdict == "new and initialised" and key not in source
            assert target[key].any() or key.endswith("bias")
    assert set(source) <= set(verdicts)


def test_both_trainings_moved_the_weights(rehearsed: Rehearsed) -> None:
    before = read_state_dict(rehearsed.artifact("base", "base") / "unet")
    trained = read_state_dict(rehearsed.artifact("train_2d", "unet"))
    assert trained["conv_in.weight"].shape[1] == 2 * before["conv_in.weight"].shape[1]
    assert trained["conv_in.weight"][:, 4:].any()
    assert not torch.equal(trained["conv_out.weight"], before["conv_out.weight"])
    inflated = read_state_dict(rehearsed.artifact("inflate", "unet"))
    folder = rehearsed.artifact("train_3d", "unet")
    final = load_model(UNetFrameConditionModel, folder)
    assert final.config["group_embedding"] and final.config["tag_version"] == "v3"
    moved = [key for key, value in final.state_dict().items() if (value != inflated[key]).any()]
    assert any("temporal_transformer_blocks" in key for key in moved)
    assert any(key.startswith("group_embeds2.1") for key in moved)


def premultiplied(picture: Image.Image | None) -> np.ndarray:
    """(H, W, 4) premultiplied colour and alpha in [0, 1]."""
    assert picture is not None and picture.mode == "RGBA"
    values = np.asarray(picture) / 255
    return np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=-1)


def over(layers: list[np.ndarray]) -> np.ndarray:
    """Premultiplied pictures over each other, back to front."""
    flat = np.zeros_like(layers[0])
    for layer in layers:
        flat = layer + flat * (1 - layer[..., 3:])
    return flat


def test_psds_hold_the_png_layers_in_drawing_order(
    rehearsed: Rehearsed, test_samples: list[Sample]
) -> None:
    layers_folder = rehearsed.artifact("decompose", "layers")
    psds = sorted(layers_folder.glob("*.psd"))
    assert [psd.stem for psd in psds] == [sample.name for sample in test_samples]
    for psd in psds:
        pngs = {p.stem: Image.open(p) for p in sorted((layers_folder / psd.stem).glob("*.png"))}
        assert set(pngs) == set(TRAINING_TAGS)
        document = PSDImage.open(psd)
        side, _ = document.size
        assert document.size == (64, 64)
        seen = [tag for tag in drawing_order(pngs) if np.asarray(pngs[tag])[..., 3].any()]
        assert seen and [layer.name for layer in document] == seen
        for layer in document:
            whole = Image.new("RGBA", (side, side))
            picture = layer.topil()
            assert picture is not None
            whole.paste(picture, (layer.left, layer.top))
            difference = premultiplied(whole) - premultiplied(pngs[layer.name])
            assert np.abs(difference).max() == 0
        flat = over([premultiplied(pngs[tag]) for tag in seen])
        assert np.abs(premultiplied(document.topil()) - flat).max() <= 1 / 255 + 1e-9


def test_true_layers_over_each_other_equal_the_page(test_samples: list[Sample]) -> None:
    assert len(test_samples) == TEST
    orders: set[tuple[str, ...]] = set()
    for sample in test_samples:
        page = sample.page() / 255
        placed: list[tuple[int, str, np.ndarray]] = []
        for tag, (x1, y1, x2, y2) in sample.boxes.items():
            if tag != HEAD:
                canvas = np.zeros(page.shape, np.uint8)
                canvas[y1:y2, x1:x2] = sample.layer(tag)
                nearness = int(sample.depth(tag).max())
                placed.append((nearness, tag, premultiplied(Image.fromarray(canvas))))
        placed.sort(key=lambda entry: entry[0])
        orders.add(tuple(tag for _, tag, _ in placed))
        flat = over([layer for _, _, layer in placed])
        inside = page[..., 3] == 1
        assert inside.mean() > 0.1
        assert np.abs(flat[..., :3] - page[..., :3])[inside].max() <= 1 / 255
        assert np.abs(flat[..., 3] - page[..., 3]).max() <= 1 / 255
    assert len(orders) > 1


def test_scores_compare_the_chain_with_baselines_and_ceiling(rehearsed: Rehearsed) -> None:
    scores = json.loads((rehearsed.folder / "decompose" / "scores.json").read_text())
    assert list(scores) == ["chain", "mean alpha", "nearest", "ceiling"]
    metrics = rehearsed.record("decompose")["metrics"]
    for name, system in scores.items():
        assert system["characters"] == TEST
        assert tuple(system["tags"]) == TAGS_V3
        assert {"iou", "big_iou", "mae", "psnr", "hidden_recall", "false_layers"} <= set(
            system["overall"]
        )
        for measure, value in system["overall"].items():
            assert metrics.get(f"{name.replace(' ', '_')}_{measure}") == value
    # Four steps teach nothing: what is copied from training characters is far ahead.
    assert scores["nearest"]["overall"]["iou"] > 0.1 + scores["chain"]["overall"]["iou"]
    for name in ("mean alpha", "nearest"):
        big = scores[name]["overall"]["big_iou"]
        assert big > 0.1 + scores["chain"]["overall"]["big_iou"]


def test_the_report_stands_alone(rehearsed: Rehearsed, test_samples: list[Sample]) -> None:
    report = rehearsed.artifact("decompose", "report")
    html = report.read_text(encoding="utf-8")
    outside = [
        link
        for link in re.findall(r"""(?:src|href|url\()\s*=?\s*["']?([^"')\s>]+)""", html)
        if not link.startswith(("data:image/png;base64,", "#"))
    ]
    # Nothing is loaded; the links lead to the PSDs beside it.
    assert outside == [f"layers/{sample.name}.psd" for sample in test_samples]
    assert all((report.parent / link).is_file() for link in outside)
    assert "<script" not in html and "@import" not in html
    for sample in test_samples:
        assert sample.name in html
    for system in ("chain", "mean alpha", "nearest", "ceiling"):
        assert system in html


def test_a_rerun_does_nothing(rehearsed: Rehearsed, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in rehearsed.folder.rglob("*") if p.is_file()}

    before = times()
    run(twin(), rehearsed.runs)
    assert times() == before
    assert capsys.readouterr().out.splitlines() == [
        f"{stage}: done" for stage in rehearsed.resolved.stages
    ]


def test_a_second_rehearsal_gives_the_same_bytes(
    rehearsed: Rehearsed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, pictures, PSDs, scores, checkpoints and latents, whatever torch's seed is."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(987)
    np.random.seed(987)
    run(twin(), tmp_path / "again")
    first = hashes(rehearsed.folder)
    assert hashes(tmp_path / "again" / rehearsed.resolved.name) == first
    kinds = {Path(name).suffix for name in first}
    assert {".safetensors", ".png", ".psd", ".json", ".html", ".tsv", ".txt"} <= kinds


def hashes(folder: Path) -> Mapping[str, str]:
    """Of every file but those that hold the time it took, or a hash of one that does."""
    timed = ("record.json", "log.jsonl", "progress.json", "manifest.json")
    return {
        path.relative_to(folder).as_posix(): tree_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in timed
    }


def test_ranks_of_an_outer_launcher_run_the_whole_chain(tmp_path: Path) -> None:
    # Two, with ZeRO in both trainings; what one process does alone must not wait for the other.
    flags = {
        **OVERRIDES,
        "train_2d.deepspeed.zero_stage": 3,
        "train_2d.deepspeed.persistence_threshold": 0,
        "train_3d.deepspeed.zero_stage": 2,
        "train_2d.hardware.channels_last": "false",
        "train_3d.hardware.channels_last": "false",
    }
    command = [
        "torchrun",
        "--nproc-per-node=2",
        "-m",
        "seethrough.run",
        str(EXPERIMENT),
        "rehearse",
    ]
    arguments = [f"--{path}={value}" for path, value in flags.items()]
    port = f"--master-port={free_port()}"
    done = subprocess.run(
        [*command[:1], port, *command[1:], f"--runs={tmp_path}", *arguments],
        env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "layerdiff3d_v3-rehearsal"
    for stage in ("characters", "vae", "base", "train_2d", "inflate", "train_3d", "decompose"):
        assert (folder / stage / "record.json").exists(), stage
    stages = [json.loads((folder / s / "deepspeed.json").read_text()) for s in TRAINED[1:]]
    assert [config["zero_optimization"]["stage"] for config in stages] == [3, 2]
    assert len(list(folder.glob("decompose/**/*.psd"))) == TEST


def test_the_plan_says_that_small_bases_stand_in(rehearsed: Rehearsed) -> None:
    head, *stages = rehearsed.plan.split("\n\n")
    assert "rehearsal" in head and "pretrained bases are replaced with small ones" in head
    described = {stage.split()[0]: stage for stage in stages}
    assert list(described) == list(rehearsed.resolved.stages)
    assert "model.base = stage:base/base" in described["train_2d"]
    assert "vae = stage:vae/vae" in described["base"]
    assert not any(isinstance(value, Hub) for value in rehearsed.resolved.values().values())
    assert "hub:" not in rehearsed.plan


def test_every_field_of_the_twin_is_read(rehearsed: Rehearsed) -> None:
    experiment = rehearsed.resolved.experiment
    assert isinstance(experiment, LayerDiff3DRehearsal)
    # The stages themselves the language hands to the engine by name.
    fields = set(flatten(experiment)) - set(rehearsed.resolved.stages)
    unread = {path for path in fields if path not in rehearsed.reads}
    excused = {p for p in unread if any(fnmatch(p, pattern) for pattern in NEVER_READ)}
    assert not sorted(unread - excused), "fields that nothing reads"
    stale = [p for p in NEVER_READ if not any(fnmatch(path, p) for path in unread)]
    assert not stale, "excused, but read after all"
