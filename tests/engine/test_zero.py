"""ZeRO by real DeepSpeed on two CPU processes: what one process gives, killed, resumed, recut."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seethrough.engine.checkpoint import load_checkpoint
from tests.engine.conftest import CHAIN, weights
from tests.engine.test_loop import difference, kill_once_seen, log
from tests.processes import Done, Warm

# 15 is odd: parameters don't divide by two, and their last part is padded.
OPTIONS = ("--train.optim.ema_decay=0.9", "--train.width=15", "--train.schedule.max_steps=8")
CUT = "--train.deepspeed.persistence_threshold=0"
OFFLOAD = ("--train.deepspeed.offload_optimizer=cpu", "--train.deepspeed.offload_parameters=cpu")


def zero(stage: int, *others: str) -> list[str]:
    return [f"--train.deepspeed.zero_stage={stage}", *([CUT] if stage == 3 else []), *others]


DISTRIBUTIONS = {
    "DDP": [],
    "ZeRO-1": zero(1),
    "ZeRO-2": zero(2),
    "ZeRO-3": zero(3),
    "ZeRO-3 with offload": zero(3, *OFFLOAD),
}


@pytest.fixture(scope="module")
def one_process(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one process."""
    runs = tmp_path_factory.mktemp("one")
    done = warm.run(CHAIN, *OPTIONS, f"--runs={runs}")
    assert done.code == 0, done.err
    return runs


def run(warm: Warm, runs: Path, *arguments: str, world: int = 2) -> Done:
    return warm.run(CHAIN, *OPTIONS, f"--runs={runs}", *arguments, world=world)


def last_checkpoint(runs: Path) -> dict[str, Any]:
    return load_checkpoint(runs / "chain/train/checkpoints/step-00000008")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest relative difference over whole tensors."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).norm() / one[name].norm()) for name in one)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_as_on_one_process_and_the_same_bits_after_a_kill(
    warm: Warm, tmp_path: Path, one_process: Path, name: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = run(warm, whole, *DISTRIBUTIONS[name])
    assert done.codes == [0, 0], done.err
    theirs, ours = last_checkpoint(one_process), last_checkpoint(whole)
    assert distance(theirs["network"], ours["network"]) < 1e-5
    assert distance(theirs["average"], ours["average"]) < 1e-6
    for number, state in theirs["optimizer"]["state"].items():
        assert state["step"] == ours["optimizer"]["state"][number]["step"]
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.allclose(
                state[moment], ours["optimizer"]["state"][number][moment], rtol=1e-4, atol=1e-9
            )
    assert difference(one_process, whole) < 1e-6  # what is exported is the average
    norms = [[line["grad_norm"] for line in log(runs)] for runs in (one_process, whole)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)

    arguments = [CHAIN, *OPTIONS, *DISTRIBUTIONS[name], "--train.pause=0.05", f"--runs={cut}"]
    checkpoints = cut / "chain/train/checkpoints"
    assert kill_once_seen(warm, arguments, 2, checkpoints, "step-00000004")
    done = run(warm, cut, *DISTRIBUTIONS[name])
    assert done.codes == [0, 0], done.err
    assert "resumed after step" in done.out
    assert weights(cut) == weights(whole)


def test_weights_in_bfloat16_have_float32_masters(warm: Warm, tmp_path: Path) -> None:
    options = ["--train.optim.precision=bf16", "--train.optim.lr=1e-5"]
    ours, theirs = tmp_path / "zero", tmp_path / "ddp"
    for runs, more in ((ours, zero(3)), (theirs, [])):
        done = run(warm, runs, *options, *more)
        assert done.codes == [0, 0], done.err
    assert last_checkpoint(ours)["network"]["layers.0.weight"].dtype == torch.float32
    # Rounding the weights to bfloat16 alone, as DeepSpeed does at the start, would make it 1e-3.
    assert distance(last_checkpoint(theirs)["network"], last_checkpoint(ours)["network"]) < 1e-4


def test_another_layout_is_refused_or_recut(warm: Warm, tmp_path: Path, one_process: Path) -> None:
    arguments = [CHAIN, *OPTIONS, "--train.pause=0.05", f"--runs={tmp_path}"]
    checkpoints = tmp_path / "chain/train/checkpoints"
    assert kill_once_seen(warm, [*arguments, *zero(2)], 2, checkpoints, "step-00000002")
    done = run(warm, tmp_path, world=1)
    assert done.code == 2
    assert "step-0000000" in done.err
    assert "was written with processes=2, micro_batch=2, zero_stage=2" in done.err
    assert "this run has processes=1, micro_batch=2, zero_stage=0" in done.err
    assert "--train.hardware.reshard=true" in done.err
    # From two processes to one, killed again, and back to two, in other parts.
    reshard = "--train.hardware.reshard=true"
    assert kill_once_seen(warm, [*arguments, reshard], 1, checkpoints, "step-00000006")
    done = run(warm, tmp_path, *zero(3), reshard)
    assert done.codes == [0, 0], done.err
    assert difference(one_process, tmp_path) < 1e-5


def test_own_processes_and_the_configuration_they_leave(
    warm: Warm, tmp_path: Path, one_process: Path
) -> None:
    pictures = ["--train.schedule.pictures_every=4", "--train.schedule.validate_every=4"]
    done = run(warm, tmp_path, *zero(3), "--train.hardware.processes=2", *pictures, world=1)
    assert done.code == 0, done.err
    assert "deprecated" not in done.err and "[INFO]" not in done.out
    assert difference(one_process, tmp_path) < 1e-6
    # Both are made with the whole network, put together on the main process.
    assert (tmp_path / "chain/train/pictures/step-00000008-predictions.png").exists()
    assert any("validation/error" in line for line in log(tmp_path))
    config = json.loads((tmp_path / "chain/train/deepspeed.json").read_text())
    assert config["zero_optimization"]["stage"] == 3
    assert config["train_batch_size"] == 8
    assert config["gradient_accumulation_steps"] == 2


def test_one_process_may_offload(warm: Warm, tmp_path: Path, one_process: Path) -> None:
    done = run(warm, tmp_path, *zero(2, OFFLOAD[0]), world=1)
    assert done.code == 0, done.err
    assert difference(one_process, tmp_path) < 1e-6
