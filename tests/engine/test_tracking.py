"""Trackers: real ones, on this machine alone."""

import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seethrough.engine.tracking import check_tracker
from seethrough.errors import InputError
from tests.engine.conftest import CHAIN, Warm

OPTIONS = ["--train.schedule.pictures_every=3", "--train.schedule.validate_every=3"]


def test_tensorboard(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", "--train.tracking.tracker=tensorboard", *OPTIONS)
    assert done.code == 0, done.err
    found = list((tmp_path / "chain/train").rglob("events.out.tfevents.*"))
    events = [EventAccumulator(str(path)).Reload() for path in found]
    (event,) = [event for event in events if "loss" in event.Tags()["scalars"]]
    assert {"loss", "grad_norm", "lr/first", "validation/error"} <= set(event.Tags()["scalars"])
    assert [scalar.step for scalar in event.Scalars("loss")] == [2, 4, 6]
    (first, _) = event.Images("predictions")
    assert (first.width, first.height, first.step) == (5, 32, 3)


def test_wandb_is_offline_without_a_key(warm: Warm, tmp_path: Path) -> None:
    env = {"WANDB_MODE": None, "WANDB_API_KEY": None, "HOME": str(tmp_path), "NETRC": str(tmp_path)}
    done = warm.run(
        CHAIN, f"--runs={tmp_path}", "--train.tracking.tracker=wandb", *OPTIONS, env=env
    )
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "chain/train/wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    content = log.read_bytes()
    assert b"grad_norm" in content and b"validation/error" in content
    assert b"chain-train" in content and b"see-through" in content
    assert len(list((folder / "files/media/images").glob("predictions_*.png"))) == 2


def test_no_tracker_leaves_the_log_alone(warm: Warm, tmp_path: Path) -> None:
    assert warm.run(CHAIN, f"--runs={tmp_path}", "--train.tracking.tracker=none").code == 0
    assert sorted(os.listdir(tmp_path / "chain/train")) == [
        "checkpoints", "log.jsonl", "record.json", "started.json", "weights.safetensors",
    ]  # fmt: skip


def test_a_wrong_tracker_is_refused_before_anything_runs(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", "--train.tracking.tracker=wandbb")
    assert done.code == 2
    assert done.err == (
        "train.tracking.tracker=wandbb: no such tracker; did you mean wandb or swanlab? (or none)\n"
    )
    assert not (tmp_path / "chain").exists()
    with pytest.raises(InputError, match="its package is not installed"):
        check_tracker("train", "comet_ml")
