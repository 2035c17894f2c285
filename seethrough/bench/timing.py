"""CPU time of several works in turn, so that what disturbs the machine disturbs them alike."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from seethrough.errors import InputError


@attrs.frozen
class Ratio:
    """How many times one work's CPU time is another's, over rounds in which both ran."""

    median: float
    """Median of the rounds' ratios."""
    low: float
    """Their lower quartile."""
    high: float
    """Their upper quartile."""
    total: float
    """Ratio of the sums, in which rare work counts too."""

    def __str__(self) -> str:
        return f"{self.median:.3f} (quartiles {self.low:.3f} to {self.high:.3f})"


def cpu_times(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each work in each round, over all threads of the process.

    Every other round is in reverse order: none profits from what the one before it left.
    """
    order = list(works)
    times: dict[str, list[float]] = {name: [] for name in order}
    for number in range(rounds):
        for name in order if number % 2 == 0 else order[::-1]:
            start = time.process_time()
            works[name]()
            times[name].append(time.process_time() - start)
    return times


def ratio(times: list[float], base: list[float]) -> Ratio:
    """Compare round by round; at least two rounds."""
    ratios = [one / other for one, other in zip(times, base, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return Ratio(median, low, high, sum(times) / sum(base))


def write_json(path: Path, figures: Any) -> None:
    """Write an attrs object. Raises InputError if the file can't be written."""
    try:
        path.write_text(json.dumps(attrs.asdict(figures), indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--json={path}: can't be written: {error.strerror}") from error
