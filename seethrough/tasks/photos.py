"""What tasks share that train on photos with masks of what is transparent in them."""

from typing import TypeVar

from torch import Tensor

from seethrough.data.class_colours import palette
from seethrough.data.trans10k import CLASSES
from seethrough.data.transparency import TransparencyDataset
from seethrough.recipes.autoencoder import PhotoVaeTrain
from seethrough.recipes.transparency import TransparencyData, TransparencyTrain
from seethrough.tasks.task import Batch, StageContext, Task

PhotoStage = TypeVar("PhotoStage", bound=TransparencyTrain | PhotoVaeTrain)


class PhotoTask(Task[PhotoStage]):
    """Photos to train on, an average over photos; `colours` are those of the masks' classes."""

    def __init__(self, stage: PhotoStage, context: StageContext) -> None:
        super().__init__(stage, context)
        self.photos = training_dataset(stage.data, context)
        self.colours = mask_colours(stage.data, self.photos)

    def dataset(self) -> TransparencyDataset:
        return self.photos

    def sample_name(self, row: int) -> str:
        return str(self.photos.pair(row).photo)

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])


def training_dataset(data: TransparencyData, context: StageContext) -> TransparencyDataset:
    """The training split as a section describes it."""
    return TransparencyDataset(
        sources=[(context.path(source), rate) for source, rate in data.sources],
        target_sizes=data.target_sizes,
        classes_apart=data.classes == "apart",
        random_flip=data.random_flip,
        random_colour=data.random_colour,
        random_blur=data.random_blur,
        random_noise=data.random_noise,
    )


def held_out_dataset(data: TransparencyData, context: StageContext) -> TransparencyDataset:
    """The validation split of a section's held-out dataset, as it is, at the first size."""
    assert data.validation is not None
    return TransparencyDataset(
        sources=[(context.path(data.validation), 1)],
        split="validation",
        target_sizes=data.target_sizes[:1],
        classes_apart=data.classes == "apart",
    )


def mask_colours(data: TransparencyData, photos: TransparencyDataset) -> Tensor:
    """The colour of each class of a dataset's masks, (classes, 3)."""
    apart = data.classes == "apart"
    return palette(len(CLASSES[photos.pair(0).version]) if apart else 2)
