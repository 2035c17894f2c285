"""What stands in for a sample that can't be read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.data.replacement import TRIES, load
from seethrough.errors import InputError


class Numbers(Dataset[dict[str, Any]]):
    """Rows, some of which can't be read."""

    def __init__(self, rows: int, bad: set[int]) -> None:
        self.rows = rows
        self.bad = bad
        self.reads: list[Draw] = []

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        self.reads.append(draw)
        if draw.sample in self.bad:
            raise InputError(f"row {draw.sample} is broken")
        return {"draw": draw}


def at(sample: int, index: int = 0) -> Draw:
    return Draw(seed=0, stage="train", step=0, index=index, sample=sample)


@given(st.integers(1, 30), st.sets(st.integers(0, 29), max_size=20), st.integers(0, 29))
def test_the_first_that_can_be_read_stands_in(rows: int, bad: set[int], row: int) -> None:
    numbers = Numbers(rows, bad)
    draw = at(row % rows)
    if draw.sample not in bad:
        assert load(numbers, draw, skip=True).item["draw"] == draw
        return
    with pytest.raises(InputError, match=f"^row {draw.sample} is broken$"):
        load(numbers, draw, skip=False)
    numbers.reads.clear()
    try:
        loaded = load(numbers, draw, skip=True)
    except InputError as error:
        assert len(numbers.reads) == TRIES + 1 and "too many" in str(error)
        assert f"row {numbers.reads[-1].sample} is broken" in str(error)
        return
    chosen = loaded.item["draw"]
    assert chosen.sample not in bad and chosen == numbers.reads[-1]
    # All of the draw but its row: its place in the run decides over groups.
    assert (chosen.step, chosen.index, chosen.stage) == (draw.step, draw.index, draw.stage)
    left_out = [bad_sample.row for bad_sample in loaded.left_out]
    assert left_out == [read.sample for read in numbers.reads[:-1]] and left_out[0] == draw.sample
    assert load(numbers, draw, skip=True) == loaded


def test_rows_that_stand_in_are_spread() -> None:
    """A folder of broken files lies side by side in a list."""
    numbers = Numbers(1000, set(range(500)))
    rows = {load(numbers, at(7, index), skip=True).item["draw"].sample for index in range(100)}
    assert len(rows) > 80 and min(rows) < 600 and max(rows) > 900
