"""How well transparent objects are found, in the two protocols that published numbers follow.

Per image: what is transparent is one class, whatever it is; each image is measured at the size it
is given in, and the measures are averaged over images. The published one-step model is measured
so, on photos squeezed to 1024 px squares.

TransLab's (Xie et al., 2020): classes apart, on squares of `TRANSLAB_SIDE` px, areas summed over
the whole dataset before they are divided. A mean of images weighs a small object like a large one,
this doesn't: the two never compare.

A share of nothing is 1 here, so that an image without anything transparent has a value: an empty
prediction of it is right. The published programs give NaN for the IoU and 0 for the recall; their
test images are never empty.
"""

from collections.abc import Iterable
from typing import Any

import attrs
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_stat_scores, multiclass_confusion_matrix
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

from seethrough.data.trans10k import DIFFICULTIES, Difficulty

MEASURES = {
    "iou": "IoU",
    "recall": "recall",
    "ber": "BER",
    "mae": "MAE",
    "mse": "MSE",
}
"""What is measured per image, with its name for people. Of the last three less is better."""

THRESHOLD = 0.5
"""A pixel is transparent where the soft mask is above this."""

TRANSLAB_SIDE = 512
"""Side in pixels of the squares that TransLab's protocol is measured on."""


@attrs.frozen
class ImageScores:
    """The measures of one image, and the areas that a dataset's IoU is summed from."""

    iou: float
    """Intersection over union of the transparent pixels."""
    recall: float
    """Share of the truly transparent pixels that were found."""
    ber: float
    """Balanced error rate in percent: 100 less the mean of the recalls of transparent and
    opaque pixels."""
    mae: float
    """Mean absolute difference of the soft mask to the truth."""
    mse: float
    """Mean squared difference likewise."""
    intersection: int
    """Pixels found that are transparent."""
    union: int
    """Pixels found or transparent."""


def image_scores(soft: Tensor, true: Tensor) -> ImageScores:
    """Measure one image.

    Args:
        soft: (H, W) or (channels, H, W) in [0, 1]. Channels are averaged before the threshold,
            but `mae` and `mse` are means over all of them: so the published MSE is made, from the
            three channels that the autoencoder decodes.
        true: (H, W), transparent where it isn't 0: bool, or a class.

    Raises:
        ValueError: when the sizes differ.
    """
    if soft.shape[-2:] != true.shape:
        raise ValueError(f"sizes differ: {tuple(soft.shape)} and {tuple(true.shape)}")
    soft, true = soft.float(), true != 0
    plane = soft if soft.ndim == 2 else soft.mean(0)
    counts = binary_stat_scores(plane > THRESHOLD, true, validate_args=False).tolist()
    hits, false_alarms, rejections, misses, _ = counts
    truth = true.float().expand_as(soft).contiguous()
    recall = _share(hits, hits + misses)
    return ImageScores(
        iou=_share(hits, hits + misses + false_alarms),
        recall=recall,
        ber=100 * (1 - (recall + _share(rejections, rejections + false_alarms)) / 2),
        mae=mean_absolute_error(soft.contiguous(), truth).item(),
        mse=mean_squared_error(soft.contiguous(), truth).item(),
        intersection=hits,
        union=hits + misses + false_alarms,
    )


def mean_scores(images: Iterable[ImageScores]) -> dict[str, float]:
    """Average `MEASURES` over images; with `images`, their number, and `dataset_iou`.

    `dataset_iou` is the intersection over union of areas summed over all images: TransLab's
    mean IoU where what is transparent is one class. Raises ValueError without an image.
    """
    scores = list(images)
    if not scores:
        raise ValueError("no image to average over")
    means = {name: sum(getattr(one, name) for one in scores) / len(scores) for name in MEASURES}
    areas = sum(one.intersection for one in scores), sum(one.union for one in scores)
    return {"images": len(scores), **means, "dataset_iou": _share(*areas)}


def scores_by_difficulty(
    images: Iterable[tuple[Difficulty | None, ImageScores]],
) -> dict[str, dict[str, float]]:
    """The means of "easy", of "hard" and of all, "mix"; a difficulty without images is left out."""
    given = list(images)
    means = {
        difficulty: mean_scores(scores)
        for difficulty in DIFFICULTIES
        if (scores := [one for found, one in given if found == difficulty])
    }
    return {**means, "mix": mean_scores(one for _, one in given)}


class TransLabScores(Metric):
    """TransLab's protocol, as its published evaluator computes it.

    What a class has to say that occurs nowhere, in truth or prediction, is left out; the published
    evaluator counts it as 0.
    """

    full_state_update = False
    confusion: Tensor
    distance: Tensor
    ber_sums: Tensor
    ber_counts: Tensor
    images: Tensor

    def __init__(self, classes: int = 3, **options: Any) -> None:
        """`classes` counts the background: 3 for version 1 of Trans10K, 2 with classes merged."""
        super().__init__(**options)
        self.classes = classes
        zeros = torch.zeros(classes, dtype=torch.float64)
        states = {
            "confusion": torch.zeros(classes, classes, dtype=torch.int64),
            "distance": torch.zeros((), dtype=torch.float64),
            "ber_sums": zeros,
            "ber_counts": zeros.clone(),
            "images": torch.zeros((), dtype=torch.float64),
        }
        for name, state in states.items():
            self.add_state(name, state, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add one image: the class of each pixel, (H, W) of whole numbers, both of one size."""
        confusion = multiclass_confusion_matrix(
            predicted.long(), true.long(), num_classes=self.classes
        )
        classes = torch.arange(self.classes, device=confusion.device)
        distances = (classes[:, None] - classes).abs()
        right = confusion.diagonal()
        present = confusion.sum(1)
        absent = confusion.sum() - present
        # A pixel of another class counts as rejected only where that class was found.
        rejected = (right.sum() - right).double() / absent.clamp(min=1)
        rejected = torch.where(absent > 0, rejected, 1.0)
        ber = 100 * (1 - (right.double() / present.clamp(min=1) + rejected) / 2)
        self.confusion += confusion
        self.distance += (confusion * distances).sum().double() / confusion.sum()
        self.ber_sums += torch.where(present > 0, ber, 0.0)
        self.ber_counts += present > 0
        self.images += 1

    def compute(self) -> dict[str, float]:
        """The measures, without those that have nothing to measure.

        `miou`: mean over the classes but the background of intersection over union, and
        `iou_<class>` of each. `acc`: share of the truly transparent pixels whose class was found.
        `mae`: mean over images of the mean distance between predicted and true class, as numbers.
        `mber`: mean over these classes of the balanced error rate in percent, which is averaged
        over the images that have the class.
        """
        right = self.confusion.diagonal()
        present = self.confusion.sum(1)
        union = present + self.confusion.sum(0) - right
        classes = range(1, self.classes)
        ious = {c: (right[c] / union[c]).item() for c in classes if union[c] > 0}
        bers = [(self.ber_sums[c] / self.ber_counts[c]).item() for c in classes if present[c] > 0]
        scores = {f"iou_{c}": iou for c, iou in ious.items()}
        if ious:
            scores["miou"] = sum(ious.values()) / len(ious)
        if bers:
            scores["acc"] = (right[1:].sum() / present[1:].sum()).item()
            scores["mber"] = sum(bers) / len(bers)
        if self.images > 0:
            scores["mae"] = (self.distance / self.images).item()
        return scores


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
