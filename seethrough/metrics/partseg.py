"""How well body parts are found: overlap of masks, over a whole dataset and per picture.

A mask that is not to be relied on is left out, and so is, of overlap, a part that is neither there
nor found: the published program counts that as an overlap of 1. What it calls precision is the
`accuracy` here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multilabel_stat_scores


class PartScores(Metric):
    """Accumulates pictures; each counts once, on any number of processes."""

    full_state_update = False
    counts: Tensor
    pictures: Tensor

    def __init__(self, tags: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.tags = tuple(tags)
        # A row a class. Pixels: found rightly, wrongly, left out rightly, wrongly.
        counts = torch.zeros(len(self.tags), 4, dtype=torch.int64)
        # Of the pictures: sum of overlaps, how many have one, found though absent, absent.
        pictures = torch.zeros(len(self.tags), 4, dtype=torch.float64)
        self.add_state("counts", counts, dist_reduce_fx="sum")
        self.add_state("pictures", pictures, dist_reduce_fx="sum")

    def update(self, found: Tensor, true: Tensor, valid: Tensor | None = None) -> None:
        """Add one picture.

        Args:
            found: (C, H, W) bool.
            true: the same.
            valid: (C,) bool, which true masks are to be relied on; None for all.

        Raises:
            ValueError: when shapes differ.
        """
        if found.shape != true.shape or len(found) != len(self.tags):
            raise ValueError(
                f"masks {tuple(found.shape)} and {tuple(true.shape)} of {len(self.tags)} tags"
            )
        scores = multilabel_stat_scores(
            found.int()[None],
            true.int()[None],
            num_labels=len(self.tags),
            average="none",
            multidim_average="samplewise",
            validate_args=False,
        )
        counts = scores.view(len(self.tags), 5)[:, :4].long()
        if valid is not None:
            counts = counts * valid.to(counts.device)[:, None]
        right, wrong, _, missed = counts.unbind(1)
        union = right + wrong + missed
        absent = (right + missed == 0) & (counts.sum(1) > 0)
        pictures = [right / union.clamp(min=1), union > 0, absent & (wrong > 0), absent]
        self.counts += counts
        self.pictures += torch.stack([part.double() for part in pictures], dim=1)

    def compute(self) -> dict[str, float]:
        """The measures; those without anything to measure are left out.

        `miou` is the mean of `iou/<tag>`, the intersections over all pictures by the unions;
        `picture_miou` that of the means of each picture's; `accuracy` the share of right pixels of
        all masks; `false_parts` how often a part is found in a picture without it.
        """
        right, wrong, rejected, missed = self.counts.T.tolist()
        scores: dict[str, float] = {}
        ious = {
            tag: right[c] / (right[c] + wrong[c] + missed[c])
            for c, tag in enumerate(self.tags)
            if right[c] + wrong[c] + missed[c]
        }
        overlaps, with_overlap, false, absent = self.pictures.T
        if ious:
            scores["miou"] = sum(ious.values()) / len(ious)
            some = with_overlap > 0
            scores["picture_miou"] = float((overlaps[some] / with_overlap[some]).mean())
        if pixels := int(self.counts.sum()):
            scores["accuracy"] = (sum(right) + sum(rejected)) / pixels
        if absent.sum() > 0:
            scores["false_parts"] = float(false.sum() / absent.sum())
        return scores | {f"iou/{tag}": iou for tag, iou in ious.items()}
