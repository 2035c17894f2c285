"""Trackers: real ones, on this machine alone; what they wrote is read back."""

import json
import os
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore

from seethrough.engine.tracking import check_tracker
from seethrough.errors import InputError
from tests.engine.conftest import CHAIN, weights
from tests.engine.wandb_file import read_records
from tests.processes import Running, Warm

OPTIONS = ["--train.schedule.pictures_every=3", "--train.schedule.validate_every=3"]
LONG = ["--train.schedule.max_steps=12", *OPTIONS]
# Leaves time to end a run between two steps, on a busy machine too.
SLOW = "--train.pause=0.1"
OFFLINE: dict[str, str | None] = {"WANDB_MODE": "offline"}


def log(runs: Path) -> dict[int, dict[str, float]]:
    """What the log has, by step."""
    result: dict[int, dict[str, float]] = {}
    for line in (runs / "chain/train/log.jsonl").read_text().splitlines():
        values = json.loads(line)
        result.setdefault(values.pop("step"), {}).update(values)
    return result


def flags(runs: Path, tracker: str, *options: str) -> list[str]:
    return [CHAIN, f"--runs={runs}", f"--train.tracking.tracker={tracker}", *options]


def end_at(running: Running, place: Path, signal: Signals = SIGKILL) -> None:
    """End a run as soon as something is there."""
    limit = time.monotonic() + 60
    while not place.exists():
        assert time.monotonic() < limit
        time.sleep(0.005)
    os.kill(running.pids[0], signal)
    running.wait()


# TensorBoard


def scalars(event: EventAccumulator) -> dict[int, dict[str, float]]:
    """What TensorBoard shows, by step."""
    result: dict[int, dict[str, float]] = {}
    for name in event.Tags()["scalars"]:
        for scalar in event.Scalars(name):
            assert name not in result.setdefault(scalar.step, {})
            result[scalar.step][name] = scalar.value
    return result


def charts(runs: Path) -> EventAccumulator:
    """The run's charts, as TensorBoard puts its files together."""
    return EventAccumulator(str(runs / "chain/train/see-through")).Reload()


def test_tensorboard_has_values_numbers_and_pictures(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(*flags(tmp_path, "tensorboard", *OPTIONS))
    assert done.code == 0, done.err
    event = charts(tmp_path)
    shown, logged = scalars(event), log(tmp_path)
    assert shown == {step: pytest.approx(values) for step, values in logged.items()}
    assert {"loss", "loss/rows-00-07", "grad_norm", "lr/first", "lr/others"} <= shown[2].keys()
    assert shown[3].keys() == shown[6].keys() & {"validation/error"}
    pictures = event.Images("predictions")
    assert [(p.width, p.height, p.step) for p in pictures] == [(5, 32, 3), (5, 32, 6)]

    (path,) = (tmp_path / "chain/train/see-through").glob("*/events.out.tfevents.*")
    told = EventAccumulator(str(path)).Reload().PluginTagToContent("hparams")
    content = told["_hparams_/session_start_info"]
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["experiment"].string_value == "chain"
    assert values["stage"].string_value == "train"
    assert values["optim.lr"].number_value == 0.01
    assert values["hardware.micro_batch"].number_value == 2


def test_tensorboard_shows_a_resumed_run_once(warm: Warm, tmp_path: Path) -> None:
    arguments = flags(tmp_path, "tensorboard", *LONG, "--train.schedule.log_every=1")
    checkpoints = tmp_path / "chain/train/checkpoints"
    running = warm.start(*arguments, SLOW, "--train.schedule.checkpoint_every=4")
    end_at(running, checkpoints / "step-00000008")
    # As if the last checkpoint had been harmed: more steps are done again.
    (checkpoints / "step-00000008").rename(tmp_path / "harmed")
    done = warm.run(*arguments)
    assert done.code == 0 and "resumed after step 4" in done.out, done.err
    shown = scalars(charts(tmp_path))
    assert list(shown) == list(range(1, 13))
    assert shown == {step: pytest.approx(values) for step, values in log(tmp_path).items()}


# wandb


def run_files(runs: Path) -> list[Path]:
    """The files of a run's sessions, in order."""
    return sorted((runs / "chain/train/wandb").glob("offline-run-*/*.wandb"))


def rows(path: Path) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The steps of a session, what numbers it has of each, and what of the picture."""
    found: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            items = [(list(i.nested_key) or [i.key], i.value_json) for i in record.history.item]
            values = {tuple(keys): json.loads(text) for keys, text in items}
            numbers = {keys[0]: value for keys, value in values.items() if len(keys) == 1}
            picture = {k[1]: v for k, v in values.items() if k[0] == "predictions"}
            own = {name: value for name, value in numbers.items() if not name.startswith("_")}
            found.append((record.history.step.num, own, picture))
    return found


def test_wandb_has_values_numbers_and_pictures(warm: Warm, tmp_path: Path) -> None:
    """It stays offline where no key is known."""
    env = {"WANDB_MODE": None, "WANDB_API_KEY": None, "HOME": str(tmp_path), "NETRC": str(tmp_path)}
    done = warm.run(*flags(tmp_path, "wandb", *OPTIONS), env=env)
    assert done.code == 0, done.err
    (path,) = run_files(tmp_path)
    records = list(read_records(path))
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name) == ("see-through", "chain-train")
    assert run.run_id == (tmp_path / "chain/train/wandb-id.txt").read_text()
    told = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        if record.WhichOneof("record_type") == "config"
        for item in record.config.update
    }
    assert (told["experiment"], told["stage"]) == ("chain", "train")
    assert (told["optim.lr"], told["hardware.micro_batch"], told["weighted"]) == (0.01, 2, False)
    assert told["optim.ema_decay"] == "none" and told["data.sources"] == "((stage:rows/rows, 1),)"

    shown = {step: numbers for step, numbers, _ in rows(path)}
    assert shown == {step: pytest.approx(values) for step, values in log(tmp_path).items()}
    assert {"loss", "loss/rows-00-07", "grad_norm", "lr/first", "lr/others"} <= shown[2].keys()
    assert "validation/error" in shown[3]
    pictures = {step: picture for step, _, picture in rows(path) if picture}
    assert list(pictures) == [3, 6]
    for picture in pictures.values():
        (name,) = picture["filenames"]
        assert (picture["width"], picture["height"]) == (5, 32)
        assert (path.parent / "files" / name).stat().st_size > 0


@pytest.mark.parametrize("signal", [SIGINT, SIGKILL], ids=["interrupted", "killed"])
def test_a_resumed_run_is_the_same_one_in_wandb(
    warm: Warm, tmp_path: Path, signal: Signals
) -> None:
    arguments = flags(tmp_path, "wandb", *LONG, "--train.schedule.log_every=1")
    checkpoints = tmp_path / "chain/train/checkpoints"
    running = warm.start(*arguments, SLOW, "--train.schedule.checkpoint_every=4", env=OFFLINE)
    end_at(running, checkpoints / "step-00000008", signal)
    # As if the last checkpoint had been harmed: more steps are done again.
    (checkpoints / "step-00000008").rename(tmp_path / "harmed")
    done = warm.run(*arguments, env=OFFLINE)
    assert done.code == 0 and "resumed after step 4" in done.out, done.err
    sessions = run_files(tmp_path)
    assert len(sessions) == 2
    (name,) = {path.name for path in sessions}
    assert name == f"run-{(tmp_path / 'chain/train/wandb-id.txt').read_text()}.wandb"
    steps = [[step for step, _, _ in rows(path)] for path in sessions]
    assert all(session == sorted(set(session)) for session in steps)
    assert steps[1] == list(range(5, 13))
    # What wandb had in memory alone is lost in a kill.
    assert signal == SIGKILL or steps[0][:8] == list(range(1, 9))
    ends = [r.exit.exit_code for path in sessions for r in read_records(path) if r.HasField("exit")]
    assert ends[-1] == 0 and (signal == SIGKILL or ends[0] != 0)
    logged = log(tmp_path)
    for path in sessions:
        for step, numbers, _ in rows(path):
            if path == sessions[1] or step <= 4:
                assert numbers == pytest.approx(logged[step])
            else:  # done again, with the same result in another time
                assert numbers["loss"] == logged[step]["loss"]


# Trackers that fail


def test_a_tracker_that_cannot_start_does_not_stop_training(warm: Warm, tmp_path: Path) -> None:
    plain, tracked = tmp_path / "plain", tmp_path / "tracked"
    assert warm.run(*flags(plain, "none", *OPTIONS)).code == 0
    done = warm.run(*flags(tracked, "wandb", *OPTIONS), env={"WANDB_MODE": "nowhere"})
    assert done.code == 0, done.err
    assert done.out.count("train: the tracker couldn't start (") == 1
    assert f"{tracked / 'chain/train'} has the numbers" in done.out
    assert log(tracked).keys() == log(plain).keys()
    assert len(list((tracked / "chain/train/pictures").iterdir())) == 2
    assert weights(tracked) == weights(plain)


def test_a_tracker_that_dies_does_not_stop_training(warm: Warm, tmp_path: Path) -> None:
    arguments = flags(tmp_path, "wandb", *LONG, "--train.schedule.log_every=1")
    running = warm.start(*arguments, SLOW, env=OFFLINE)
    checkpoints = tmp_path / "chain/train/checkpoints"
    limit = time.monotonic() + 60
    while not (checkpoints / "step-00000002").exists():
        assert time.monotonic() < limit
    services = psutil.Process(running.pids[0]).children(recursive=True)
    assert services
    for service in services:
        service.kill()
    done = running.wait()
    assert done.code == 0, done.err
    assert done.out.count("train: the tracker couldn't take ") == 1
    assert "Training goes on without it" in done.out
    assert list(log(tmp_path)) == list(range(1, 13))
    assert (tmp_path / "chain/train/record.json").exists()


# No tracker


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
