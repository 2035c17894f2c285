"""Measures of body parts, and what any model must beat."""

import numpy as np
import pytest
import torch
from torch import Tensor

from seethrough.metrics.part_baseline import mean_masks
from seethrough.metrics.partseg import PartScores


def masks(*rows: str) -> Tensor:
    """One row of pixels a class."""
    return torch.tensor([[[c == "#" for c in row]] for row in rows])


def test_overlap_over_all_pictures_and_of_each() -> None:
    scores = PartScores(("face", "hair"))
    scores.update(masks("##..", "...."), masks("#...", "...."))
    scores.update(masks("####", "#..."), masks("####", "...."))
    found = scores.compute()
    assert found == pytest.approx(
        {
            "iou/face": 5 / 6,
            "iou/hair": 0,
            "miou": 5 / 12,
            "picture_miou": (3 / 4 + 0) / 2,
            "accuracy": 14 / 16,
            "false_parts": 1 / 2,
        }
    )


def test_masks_that_are_not_relied_on_count_nowhere() -> None:
    whole, part = PartScores(("face", "hair")), PartScores(("face",))
    whole.update(masks("##..", "####"), masks("#...", "...."), torch.tensor([True, False]))
    part.update(masks("##.."), masks("#..."))
    assert whole.compute() == part.compute()


def test_what_is_nowhere_has_no_overlap() -> None:
    scores = PartScores(("face",))
    scores.update(masks("...."), masks("...."))
    assert scores.compute() == {"accuracy": 1.0, "false_parts": 0.0}
    with pytest.raises(ValueError, match="of 1 tags"):
        scores.update(masks("....", "...."), masks("....", "...."))


def test_the_mean_mask_is_cut_where_it_fits_best() -> None:
    """Of one row with four pages, pixels that three, two and one of them have."""
    pages = [np.array([[[True, k < 3, k < 2, k < 1, False]], [[False] * 5]]) for k in range(4)]
    face, absent = mean_masks(pages)
    assert not absent.any()

    def overlap(mask: list[bool]) -> float:
        found = np.array([mask]) & np.array([page[0] for page in pages])
        either = np.array([mask]) | np.array([page[0] for page in pages])
        return found.sum() / either.sum()

    every = [[True] * k + [False] * (5 - k) for k in range(6)]
    assert overlap(face[0].tolist()) == max(map(overlap, every))
