"""What tasks share that train autoencoders on single layers and pages."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset
from seethrough.recipes.autoencoder import LayerVaeTrain
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks.datasets import layer_dataset, readable
from seethrough.tasks.task import Batch, StageContext, Task

LayerStage = TypeVar("LayerStage", bound=TransparentVaeTrain | LayerVaeTrain)


class LayerPictures(Task[LayerStage]):
    """One picture a sample, as its draw says: the page, a layer, its silhouette, or nothing."""

    def __init__(self, stage: LayerStage, context: StageContext) -> None:
        super().__init__(stage, context)
        self.layers = layer_dataset(stage.data, context)

    def dataset(self) -> LayerDiff2DDataset:
        return self.layers

    def sample_name(self, row: int) -> str:
        return str(self.layers.page_path(row))

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])

    def collate(self, items: list[Batch]) -> Batch:
        """One ARGB picture a sample, as the draw says."""
        draws: list[Draw] = [item["draw"] for item in items]
        return {"draw": draws, "argb": torch.stack([self._picture(item) for item in items])}

    def _picture(self, item: Batch) -> Tensor:
        """The page, or the layer: as it is, its silhouette, or nothing in its place."""
        draw, data = item["draw"], self.stage.data

        def chosen(stream: str, probability: float) -> bool:
            return draw.numpy(stream).random() < probability

        if chosen("page", data.page_probability):
            return item["page"]
        if chosen("empty", data.empty_probability):
            return torch.zeros_like(item["layer"])
        if chosen("silhouette", data.silhouette_probability):
            return silhouette(item["layer"], draw)
        return item["layer"]

    def items(self, dataset: LayerDiff2DDataset, count: int, purpose: str) -> Iterator[Batch]:
        """Up to `count` items at fixed draws, at most four of each sample."""
        for index in range(min(count, 4 * len(dataset))):
            draw = Draw(seed=0, stage=purpose, step=0, index=index, sample=index % len(dataset))
            yield readable(dataset, draw, self.stage.data, self.context)


def silhouette(layer: Tensor, draw: Draw) -> Tensor:
    """A layer, (4, H, W) uint8 ARGB, as an opaque picture: a gray of the draw's where it is.

    Around it is, equally often, the same gray, white, or another gray.
    """
    random = draw.numpy("gray")
    gray, other = random.integers(256, size=2).tolist()
    picture = torch.full_like(layer, 255)
    picture[1:] = (gray, 255, other)[int(random.integers(3))]
    picture[1:, layer[0] > 0] = gray
    return picture
