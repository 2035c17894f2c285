"""Items of a dataset's samples, as a task takes them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.data.sample_dataset import SampleDataset
from seethrough.errors import InputError
from seethrough.recipes.training import Data
from seethrough.tasks.task import Batch, StageContext

SampleDatasetT = TypeVar("SampleDatasetT", bound=SampleDataset)


class SampleItems(Dataset[Batch], ABC, Generic[SampleDatasetT]):
    """One item a draw; its rows are those of the dataset."""

    def __init__(self, dataset: SampleDatasetT) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @abstractmethod
    def __getitem__(self, draw: Draw) -> Batch:
        """The item of a draw."""

    def page_path(self, row: int) -> Path:
        """The page's file of a row."""
        return self.dataset.page_path(row)


class Rows(Protocol):
    """A dataset as `Task.dataset` gives it."""

    def __len__(self) -> int: ...

    def __getitem__(self, draw: Draw) -> Batch: ...


def first_items(
    dataset: Rows, purpose: str, data: Data, context: StageContext, count: int | None = None
) -> Iterator[Batch]:
    """Items of the first `count` rows of a dataset, or of all, each by a draw for `purpose`.

    For what is not training: one that can't be read is left out where the recipe says so, and told.

    Raises:
        InputError: for such a one where the recipe doesn't.
    """
    rows = len(dataset) if count is None else min(count, len(dataset))
    for row in range(rows):
        try:
            item = dataset[Draw(seed=0, stage=purpose, step=0, index=row, sample=row)]
        except InputError as error:
            if data.bad_samples != "skip":
                raise
            context.report(f"{context.name}: left out: {error}")
        else:
            yield item
