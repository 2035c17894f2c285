"""Items of a dataset's samples, as a task takes them."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from torch.utils.data import Dataset

from seethrough.data.draws import Draw
from seethrough.data.sample_dataset import SampleDataset
from seethrough.tasks.task import Batch

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
