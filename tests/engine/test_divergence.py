"""Losses on their way to the log: sums over processes and steps, and means of their parts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from seethrough.data.draws import Draw
from seethrough.engine.divergence import LossWatch
from seethrough.tasks.task import Loss, Parts
from tests.engine.conftest import CHAIN
from tests.processes import Warm

NAMES = ("first", "second", "never")


def loss(first: list[float], second: list[float]) -> Loss:
    """The loss of a micro-batch with these terms in two of three parts."""
    sums = torch.tensor([sum(first), sum(second), 0.0])
    counts = torch.tensor([float(len(first)), float(len(second)), 0.0])
    return Loss(sums.sum(), {"whole": sums.sum()}, Parts(NAMES, sums, counts))


def watch(steps: list[list[Loss]], weight: float) -> dict[str, float]:
    """The means over steps of these micro-batches."""
    result = LossWatch(Accelerator(cpu=True))
    for step, micro_batches in enumerate(steps):
        for one in micro_batches:
            draws = [Draw(seed=0, stage="train", step=step, index=0, sample=0)]
            result.add(draws, one, torch.tensor(weight))
        result.add_norm(step, torch.tensor(1.0))
    return result.means()


def test_a_part_is_averaged_over_what_fell_into_it() -> None:
    values = watch([[loss([1.0], [4.0]), loss([2.0, 3.0], [])], [loss([2.0], [6.0, 6.0, 0.0])]], 4)
    assert values == {
        "loss": pytest.approx((10 / 4 + 14 / 4) / 2),
        "loss/whole": pytest.approx((10 / 4 + 14 / 4) / 2),
        "loss/first": pytest.approx((1 + 2 + 3 + 2) / 4),
        "loss/second": pytest.approx((4 + 6 + 6 + 0) / 4),
        "grad_norm": 1.0,
    }
    # Every term is in a part here, so that the parts' means make up the loss.
    assert (4 * values["loss/first"] + 4 * values["loss/second"]) / 8 == values["loss"]


def test_parts_start_anew_after_each_reading() -> None:
    result = LossWatch(Accelerator(cpu=True))
    draws = [Draw(seed=0, stage="train", step=0, index=0, sample=0)]
    for one in (loss([5.0], [1.0]), loss([], [3.0])):
        result.add(draws, one, torch.tensor(1.0))
        result.add_norm(0, torch.tensor(1.0))
        values = result.means()
    assert "loss/first" not in values and values["loss/second"] == 3.0


def lines(runs: Path) -> list[dict[str, Any]]:
    """What the log says of the loss."""
    texts = (runs / "chain/train/log.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(text).items() if name.startswith("loss")}
        for text in texts
    ]


@pytest.mark.parametrize("weighted", ["false", "true"], ids=["even", "weighted"])
def test_the_log_is_the_same_on_any_number_of_processes(
    warm: Warm, tmp_path: Path, weighted: str
) -> None:
    arguments = [CHAIN, f"--train.weighted={weighted}", "--train.schedule.log_every=3"]
    for world in (1, 2):
        done = warm.run(*arguments, f"--runs={tmp_path / str(world)}", world=world)
        assert done.codes == [0] * world, done.err
    one, two = lines(tmp_path / "1"), lines(tmp_path / "2")
    parts = {f"loss/rows-{part}" for part in ("00-07", "08-15", "16-23")}
    # 24 samples make more than an epoch of 20, so that each part that can be met is.
    assert set.union(*({*line} for line in one)) == {"loss", "loss/squared"} | parts
    assert [line.keys() for line in one] == [line.keys() for line in two]
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-5)
