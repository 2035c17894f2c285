"""Samples that can't be read, and what stands in for one."""

from collections.abc import Iterator
from typing import Any

import attrs
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.errors import InputError

TRIES = 8
"""Samples that may stand in for one; the first good one of them does."""


@attrs.frozen
class BadSample:
    """A row that can't be read, and what was found."""

    row: int
    error: str


@attrs.frozen
class Loaded:
    """An item, and the rows that were left out on the way to it."""

    item: dict[str, Any]
    left_out: tuple[BadSample, ...]


def load(dataset: Dataset[dict[str, Any]], draw: Draw, skip: bool) -> Loaded:
    """Load a draw's item; with `skip`, of another row where the draw's can't be read.

    The rows that stand in follow from the draw alone, so the choice is the same in any worker,
    on any rank and after a restart. Raises InputError of a bad sample without `skip`, and when
    all that stand in are bad too.
    """
    left_out: list[BadSample] = []
    for candidate in _candidates(draw, len(dataset)):  # type: ignore[arg-type]
        try:
            return Loaded(dataset[candidate], tuple(left_out))
        except InputError as error:
            if not skip:
                raise
            left_out.append(BadSample(candidate.sample, str(error)))
    raise InputError(
        f"a sample and the {TRIES} that might stand in for it can't be read: these are too many to "
        f"leave out. The last: {left_out[-1].error}"
    )


def _candidates(draw: Draw, rows: int) -> Iterator[Draw]:
    yield draw
    for row in draw.numpy("stands in").integers(rows, size=TRIES).tolist():
        yield attrs.evolve(draw, sample=row)
