"""Two networks with an optimizer each in the one loop: accumulation, resuming, splits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seethrough.engine.checkpoint import load_checkpoint
from seethrough.recipe import evolve
from tests.engine.duel import DuelTrain
from tests.processes import Warm

DUEL = "tests/engine/duel.py"


def checkpoint(runs: Path, step: int) -> Path:
    return runs / f"duel/train/checkpoints/step-{step:08d}"


def run(warm: Warm, runs: Path, *flags: str, world: int = 1) -> str:
    done = warm.run(DUEL, f"--runs={runs}", *flags, world=world)
    assert done.codes == [0] * world, done.err
    return done.out


def log(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runs / "duel/train/log.jsonl").read_text().splitlines()]


def test_eight_micro_batches_of_four_a_step_are_two_updates_of_each(
    warm: Warm, tmp_path: Path
) -> None:
    run(warm, tmp_path, "--train.schedule.max_steps=2", "--train.hardware.micro_batch=2")
    parts = load_checkpoint(checkpoint(tmp_path, 2))
    for name, tensors in (("optimizer", 8), ("opponent_optimizer", 8)):
        steps = [float(state["step"]) for state in parts[name]["state"].values()]
        assert steps == [2.0] * tensors


def test_any_split_of_the_global_batch_trains_both_alike(warm: Warm, tmp_path: Path) -> None:
    splits = {"8x1": (8, 1), "2x4": (2, 1), "2 ranks": (2, 2)}
    for name, (micro_batch, world) in splits.items():
        flag = f"--train.hardware.micro_batch={micro_batch}"
        run(warm, tmp_path / name, flag, "--train.schedule.log_every=1", world=world)
    whole = load_checkpoint(checkpoint(tmp_path / "8x1", 6))
    for name in splits:
        found = load_checkpoint(checkpoint(tmp_path / name, 6))
        for part in ("network", "opponent"):
            for key, value in whole[part].items():
                assert float((found[part][key] - value).norm() / value.norm()) < 1e-5
        for line, other in zip(log(tmp_path / "8x1"), log(tmp_path / name), strict=True):
            for key in ("loss", "loss/doubt", "opponent/loss", "opponent/grad_norm"):
                assert other[key] == pytest.approx(line[key], rel=1e-4)
            assert line["opponent/loss/judged_true"] <= 1
            assert line["lr/opponent"] == pytest.approx(line["lr/others"] / 2)


@pytest.mark.parametrize("world", [1, 2])
def test_resumed_in_the_middle_both_end_in_the_same_bits(
    warm: Warm, tmp_path: Path, world: int
) -> None:
    run(warm, tmp_path, world=world)
    last = checkpoint(tmp_path, 6)
    names = ("network", "optimizer", "opponent", "opponent_optimizer")
    whole = {name: (last / f"{name}.safetensors").read_bytes() for name in names}
    shutil.rmtree(last)
    (tmp_path / "duel/train/record.json").unlink()
    assert "resumed after step 4" in run(warm, tmp_path, world=world)
    assert {name: (last / f"{name}.safetensors").read_bytes() for name in names} == whole
    start = load_file(checkpoint(tmp_path, 4) / "opponent.safetensors")
    end = load_file(last / "opponent.safetensors")
    assert not any(torch.equal(value, end[key]) for key, value in start.items())


@pytest.mark.parametrize(
    ("field", "who", "options"),
    [
        ("nan_judgement_step", "the opponent: ", "its own lr or its own max_grad_norm"),
        ("nan_step", "", "optim.lr or optim.max_grad_norm"),
    ],
)
def test_of_two_that_diverge_the_first_is_named(
    warm: Warm, tmp_path: Path, field: str, who: str, options: str
) -> None:
    """Each spoils the other at the next step, and nobody looks before the sixth."""
    rarely = [f"--train.schedule.{name}=6" for name in ("log_every", "checkpoint_every")]
    done = warm.run(DUEL, f"--runs={tmp_path}", f"--train.{field}=1", *rarely)
    assert done.code == 2
    assert f"train: {who}the loss of step 1 (counted from 0) is not finite" in done.err
    assert f"or lower {options}. There is no checkpoint." in done.err


def test_what_one_network_alone_can_have_is_refused() -> None:
    stage = DuelTrain()
    cut = evolve(stage, deepspeed=evolve(stage.deepspeed, zero_stage=2))
    assert [field for field, _ in cut.check()] == ["deepspeed.zero_stage"]
    scaled = evolve(stage, optim=evolve(stage.optim, precision="fp16"))
    assert "optim.precision" in [field for field, _ in scaled.check()]
    assert list(stage.check()) == []
