"""Samples that can't be read: what stands in for one, and the list of all that were left out."""

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.tasks.task import Batch

TRIES = 8
"""Samples that may stand in for one, the first good one of them does."""

FILE = "bad_samples.jsonl"
"""Name of the list in a stage's folder."""


@attrs.frozen
class BadSample:
    """A row that can't be read, and what was found."""

    row: int
    error: str


@attrs.frozen
class Loaded:
    """An item, and the rows that were left out on the way to it."""

    item: Batch
    left_out: tuple[BadSample, ...]


def load(dataset: Dataset[Batch], draw: Draw, skip: bool) -> Loaded:
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


def note(folder: Path, sample: str, error: str) -> bool:
    """Add a sample to the list in a stage's folder, once; whether it is new there.

    Safe to call from several processes.
    """
    line = json.dumps({"sample": sample, "error": error}, ensure_ascii=False)
    with (folder / FILE).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = file.read()
        if any(entry["sample"] == sample for entry in _entries(known)):
            return False
        # A kill may have left part of a line.
        file.truncate(len(known[: known.rfind("\n") + 1].encode()))
        file.write(line + "\n")
    return True


def count(folder: Path) -> int:
    """Count the samples in the list of a stage's folder."""
    path = folder / FILE
    return len(list(_entries(path.read_text(encoding="utf-8")))) if path.exists() else 0


def _entries(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
