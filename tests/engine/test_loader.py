"""Which samples each process sees."""

from itertools import chain
from pathlib import Path

import cv2
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.engine.loader import MicroBatches, Split, load_batches
from seethrough.tasks.task import Batch, StageContext
from tests.engine.chain import Perceptron
from tests.engine.toy import PerceptronTask


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.integers(0, 9)
)
def test_every_split_draws_the_same_global_batches(
    world: int, micro_batch: int, accumulation: int, rows: int, seed: int
) -> None:
    size = world * micro_batch * accumulation

    def draws(world: int, micro_batch: int, start: int) -> set[object]:
        ranks = [
            MicroBatches(seed, "train", rows, Split(size, micro_batch, rank, world), start, 5)
            for rank in range(world)
        ]
        for batches in ranks:
            assert len(list(batches)) == len(batches) == (5 - start) * size // world // micro_batch
            assert all(len(batch) == micro_batch for batch in batches)
        return set(chain(*chain(*ranks)))

    whole = draws(1, size, 0)
    assert len(whole) == 5 * size
    assert draws(world, micro_batch, 0) == whole
    # A resumed run goes on with the very draws of the whole one.
    assert draws(world, micro_batch, 3) == {draw for draw in whole if draw.step >= 3}  # pyright: ignore[reportAttributeAccessIssue]


def test_an_epoch_has_every_row_once() -> None:
    batches = MicroBatches(0, "train", 20, Split(8, 2, 0, 1), 0, 5)
    samples = [draw.sample for batch in batches for draw in batch]
    assert sorted(samples[:20]) == sorted(samples[20:]) == list(range(20))
    assert samples[:20] != samples[20:]


class OpenCVThreads(Dataset[Batch]):
    """Items that tell how many threads OpenCV has where they are made."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, draw: Draw) -> Batch:
        return {"draw": draw, "threads": cv2.getNumThreads()}


def test_a_worker_computes_in_one_thread(tmp_path: Path) -> None:
    device = torch.device("cpu")
    context = StageContext("train", tmp_path, {}, device, print)
    task = PerceptronTask(Perceptron(), context)
    batches = MicroBatches(0, "train", 4, Split(2, 2, 0, 1), 0, 1)
    (batch,) = load_batches(task, OpenCVThreads(), batches, 1, device)
    assert batch["threads"] == [1, 1]
