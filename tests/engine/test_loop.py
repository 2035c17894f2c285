"""The loop: killed and resumed, split over processes, in other precisions."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.conftest import CHAIN, record, weights
from tests.processes import Warm

LONG = ("--train.schedule.max_steps=20", "--train.pause=0.01")
EMA = "--train.optim.ema_decay=0.9"


def flags(optim: str, *others: str) -> list[str]:
    return [f"--train.optim={optim}", "--train.optim.lr=0.01", *others]


def tensors(runs: Path) -> dict[str, torch.Tensor]:
    return load_file(runs / "chain/train/weights.safetensors")


def difference(one: Path, other: Path) -> float:
    """Largest relative difference of two runs' weights, over whole tensors."""
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).norm() / first[name].norm()) for name in first)


def log(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runs / "chain/train/log.jsonl").read_text().splitlines()]


def kill_once_seen(warm: Warm, arguments: list[str], world: int, folder: Path, name: str) -> bool:
    """Kill the ranks as soon as `name` appears in `folder`; whether it was still there then."""
    running = warm.start(*arguments, world=world)
    limit = time.monotonic() + 30
    while not any(folder.glob(name)):
        assert time.monotonic() < limit, running.wait().err
    running.kill()
    return any(folder.glob(name))


@pytest.mark.parametrize(
    ("world", "options"),
    [
        (1, [EMA, "--train.hardware.loader_workers=1"]),
        (2, [EMA]),
        (4, [EMA, "--train.hardware.micro_batch=1"]),
        (1, flags("AdamW8bit", "--train.width=128")),
        (1, flags("Adafactor")),
    ],
    ids=["1", "2", "4", "AdamW8bit", "Adafactor"],
)
def test_killed_twice_and_resumed_gives_the_same_bits(
    warm: Warm, tmp_path: Path, world: int, options: list[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = [CHAIN, *LONG, *options]
    done = warm.run(*arguments, f"--runs={whole}", world=world)
    assert done.codes == [0] * world, done.err
    arguments.append(f"--runs={cut}")
    checkpoints = cut / "chain/train/checkpoints"

    # In the middle of a step; then while a checkpoint is written, until one was left half there.
    kill_once_seen(warm, arguments, world, checkpoints, "step-00000002")
    for step in range(6, 20, 2):
        if kill_once_seen(warm, arguments, world, checkpoints, f".partial-step-{step:08d}"):
            break
    else:
        pytest.fail("no kill fell into the writing of a checkpoint")
    assert not (cut / "chain/train/record.json").exists()
    done = warm.run(*arguments, world=world)
    assert done.codes == [0] * world, done.err
    assert done.out.count("resumed after step") == 1

    assert weights(cut) == weights(whole)
    assert record(cut, "total")["artifacts"] == record(whole, "total")["artifacts"]
    assert record(cut, "train")["metrics"] == record(whole, "train")["metrics"]
    assert [line["step"] for line in log(cut)] == [line["step"] for line in log(whole)]
    assert [line["loss"] for line in log(cut)] == [line["loss"] for line in log(whole)]
    assert not list(checkpoints.glob(".*"))


def test_killed_after_the_last_checkpoint_gives_the_same_record(warm: Warm, tmp_path: Path) -> None:
    arguments = [CHAIN, f"--runs={tmp_path}", "--train.schedule.validate_every=2"]
    assert warm.run(*arguments).code == 0
    before = record(tmp_path, "train")
    assert before["metrics"].keys() >= {"loss", "loss/squared", "validation/error"}
    # What a kill between the last checkpoint and the record leaves.
    (tmp_path / "chain/train/record.json").unlink()
    (tmp_path / "chain/train/weights.safetensors").unlink()
    assert "resumed after step 6" in warm.run(*arguments).out
    after = record(tmp_path, "train")
    # Earlier sessions count up to their last checkpoint; this one had no step to do.
    assert after["seconds"] > before["seconds"] / 2
    for timed in ("seconds", "git"):
        del before[timed], after[timed]
    assert after == before


def test_a_harmed_checkpoint_is_passed_over(warm: Warm, tmp_path: Path) -> None:
    arguments = [CHAIN, f"--runs={tmp_path}"]
    assert warm.run(*arguments).code == 0
    wanted = weights(tmp_path)
    harmed = tmp_path / "chain/train/checkpoints/step-00000006/network.safetensors"
    content = bytearray(harmed.read_bytes())
    content[-1] ^= 1
    harmed.write_bytes(content)
    (tmp_path / "chain/train/record.json").unlink()
    out = warm.run(*arguments).out
    assert "step-00000006: passed over: the content of network.safetensors differs" in out
    assert "resumed after step 4" in out
    assert weights(tmp_path) == wanted


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_any_split_of_the_global_batch_gives_the_same_weights(
    warm: Warm, tmp_path: Path, weighted: bool
) -> None:
    """Micro-batch times accumulation times processes; no split of unequal weights is special."""
    same = [CHAIN, f"--train.weighted={str(weighted).lower()}", "--train.schedule.max_steps=8"]
    splits = {"8x1": (8, 1), "2x4": (2, 1), "1x8": (1, 1), "2 ranks": (2, 2)}
    for name, (micro_batch, world) in splits.items():
        size = f"--train.hardware.micro_batch={micro_batch}"
        done = warm.run(*same, size, f"--runs={tmp_path / name}", world=world)
        assert done.codes == [0] * world, done.err
    for name in splits:
        assert difference(tmp_path / "8x1", tmp_path / name) < 1e-5
        for line, other in zip(log(tmp_path / "8x1"), log(tmp_path / name), strict=True):
            # Adam doesn't see the gradient's scale; its norm shows it.
            for key in ("loss", "loss/squared", "grad_norm"):
                assert other[key] == pytest.approx(line[key], rel=1e-4)


def test_the_log_and_what_a_run_leaves(warm: Warm, tmp_path: Path) -> None:
    options = [
        "--train.schedule.log_every=1",
        "--train.schedule.keep_checkpoints=2",
        "--train.schedule.validate_every=3",
        "--train.schedule.pictures_every=3",
        "--train.schedule.warmup_steps=4",
    ]
    done = warm.run(CHAIN, f"--runs={tmp_path}", *options)
    assert done.code == 0, done.err
    lines = [line for line in log(tmp_path) if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        # Of the loss's parts those that a sample of the step fell into.
        assert line.keys() - {f"loss/rows-{part}" for part in ("00-07", "08-15", "16-23")} == {
            "step", "loss", "loss/squared", "grad_norm", "lr/first", "lr/others",
            "samples_per_second", "data_wait_share", "peak_memory_gib",
        }  # fmt: skip
        assert line["loss"] == line["loss/squared"] > 0
        assert line["grad_norm"] > 0
        assert line["samples_per_second"] > 0
        assert 0 < line["data_wait_share"] < 1
        assert 0.05 < line["peak_memory_gib"] < 8
    rates = [line["lr/others"] for line in lines]
    assert rates == pytest.approx([0.0, 0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert [line["lr/first"] for line in lines] == pytest.approx([rate / 2 for rate in rates])
    errors = [line["validation/error"] for line in log(tmp_path) if "validation/error" in line]
    assert len(errors) == 2
    assert record(tmp_path, "train")["metrics"]["validation/error"] == errors[-1]

    train = tmp_path / "chain/train"
    kept = sorted(path.name for path in (train / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000006"]
    pictures = sorted(path.name for path in (train / "pictures").iterdir())
    assert pictures == ["step-00000003-predictions.png", "step-00000006-predictions.png"]
    assert "6/6" in done.err  # progress


def test_options_that_change_bits_or_do_not(warm: Warm, tmp_path: Path) -> None:
    runs = {
        "plain": [],
        "workers": ["--train.hardware.loader_workers=2"],
        "recompute": ["--train.hardware.gradient_checkpointing=true"],
        "validated": ["--train.schedule.validate_every=1", "--train.schedule.pictures_every=1"],
        "seed": ["--train.seed=43"],
        "bf16": ["--train.optim.precision=bf16"],
        "average": [EMA],
        "unclipped": ["--train.optim.max_grad_norm=none"],
        "clipped": ["--train.optim.max_grad_norm=0.01"],
    }
    found = {}
    for name, options in runs.items():
        done = warm.run(CHAIN, *options, f"--runs={tmp_path / name}")
        assert done.code == 0, done.err
        found[name] = weights(tmp_path / name)
    assert found["plain"] == found["workers"] == found["recompute"] == found["validated"]
    others = ("seed", "bf16", "average", "clipped")
    assert len({found["plain"], *(found[name] for name in others)}) == 1 + len(others)
    assert 0 < difference(tmp_path / "plain", tmp_path / "bf16") < 0.05
    # Norms lie below 1, where Adam clips nothing.
    assert found["unclipped"] == found["plain"]


def test_compile(warm: Warm, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile on the CPU needs g++")
    for name in ("true", "false"):
        done = warm.run(
            CHAIN, f"--runs={tmp_path / name}", f"--train.hardware.compile={name}",
            "--train.schedule.max_steps=3", env={"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "c")},
        )  # fmt: skip
        assert done.code == 0, done.err
    assert any((tmp_path / "c").rglob("*.so")) or any((tmp_path / "c").rglob("*.cpp"))
    assert difference(tmp_path / "true", tmp_path / "false") < 1e-5


@pytest.mark.parametrize("world", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(warm: Warm, tmp_path: Path, world: int) -> None:
    arguments = [CHAIN, f"--runs={tmp_path}", "--train.nan_step=3"]
    done = warm.run(*arguments, world=world)
    assert 2 in done.codes and 0 not in done.codes
    assert done.err.count("the loss of step 3 (counted from 0) is not finite; samples [") == 1
    assert "checkpoints/step-00000002" in done.err
    assert "Traceback" not in done.err
    found = done.err.partition("samples [")[2].partition("]")[0].split(", ")
    assert any(int(sample) % 5 == 3 for sample in found) and len(found) < 8
    left = [path.name for path in (tmp_path / "chain/train/checkpoints").iterdir()]
    assert left == ["step-00000002"]
    # The same command stops at the same place again.
    assert warm.run(*arguments, world=world).err.count("the loss of step 3") == 1


def test_a_gradient_that_is_not_finite_stops_the_run(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", "--train.nan_gradient_step=2")
    assert done.code == 2
    assert "the gradient of step 2 (counted from 0) is not finite" in done.err
    left = [path.name for path in (tmp_path / "chain/train/checkpoints").iterdir()]
    assert left == ["step-00000002"]
