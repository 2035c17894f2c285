"""What every benchmark says of itself; the run does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from seethrough.benchmark.page import Case
from seethrough.benchmark.results import Result
from seethrough.data.layout import Sample


@attrs.frozen(kw_only=True)
class Benchmark(ABC):
    """One kind of measures; the same on every process."""

    predictions: Path
    """Folder of the predictions."""

    @abstractmethod
    def inputs(self, sample: Sample) -> dict[str, Any]:
        """What a sample's measures depend on, for JSON: they are kept while it stays.

        Raises:
            InputError: when there is no prediction, or a file can't be read.
        """

    def load(self, device: torch.device) -> Any:
        """What `measure` needs on its device."""
        return device

    @abstractmethod
    def measure(self, sample: Sample, networks: Any, features: Path) -> dict[str, Any]:
        """Measure a sample, for JSON; `features` is a file that may be written beside.

        Raises:
            InputError: when truth or prediction can't be read or don't fit each other.
        """

    @abstractmethod
    def summarize(self, records: Mapping[str, Mapping[str, Any]], folder: Path) -> Result:
        """All samples together, each once, from what `measure` gave, by name.

        `folder` holds the features.
        """

    @abstractmethod
    def worst(
        self, samples: Sequence[Sample], records: Mapping[str, Mapping[str, Any]], count: int
    ) -> list[Case]:
        """The worst cases of the samples that have a record, the worst first, at most `count`."""
