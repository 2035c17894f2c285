"""Segmentation's measures, against counts by hand and each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seethrough.metrics.segmentation import (
    MEASURES,
    TransLabScores,
    image_scores,
    mean_scores,
    scores_by_difficulty,
)


def rows(*which: int, height: int = 4) -> Tensor:
    """A square mask of whole rows."""
    mask = torch.zeros(height, height)
    mask[list(which)] = 1
    return mask


# --- Per image ----------------------------------------------------------------------------------


def test_published_values_of_rows():
    """Number 17 of the parity tests: rows 0 and 1 found, rows 1 and 2 are transparent."""
    scores = image_scores(rows(0, 1), rows(1, 2))
    assert scores.iou == pytest.approx(1 / 3)
    assert (scores.recall, scores.mse, scores.mae, scores.ber) == (0.5, 0.5, 0.5, 50)
    assert (scores.intersection, scores.union) == (4, 12)


def test_nothing_to_find_has_a_value():
    nothing, some = rows(), rows(0)
    right, wrong, missed = (
        image_scores(p, t) for p, t in ((nothing, nothing), (some, nothing), (nothing, some))
    )
    assert (right.iou, right.recall, right.ber) == (1, 1, 0)
    assert (wrong.iou, wrong.recall, wrong.ber) == (0, 1, 12.5)
    assert (missed.iou, missed.recall, missed.ber) == (0, 0, 50)
    everything = rows(0, 1, 2, 3)
    assert image_scores(everything, everything).ber == 0


def test_a_half_is_not_transparent():
    """Number 19 of the parity tests, in float32."""
    soft = torch.tensor([[0.5, math.nextafter(0.5, 1) + 1e-7]])
    scores = image_scores(soft, torch.tensor([[1, 1]]))
    assert scores.intersection == 1


def test_channels_are_averaged_for_the_mask_but_not_for_the_errors():
    soft = torch.tensor([0.9, 0.6, 0.3]).reshape(3, 1, 1)
    scores = image_scores(soft, torch.ones(1, 1))
    assert scores.iou == 1
    assert scores.mae == pytest.approx(0.4)
    assert scores.mse == pytest.approx((0.01 + 0.16 + 0.49) / 3)


def test_any_class_is_transparent():
    assert image_scores(rows(0, 1), rows(0) + 2 * rows(1)).iou == 1
    assert image_scores(rows(0).bool(), rows(0).bool()).mae == 0


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="sizes differ"):
        image_scores(rows(0), rows(0, height=5))


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_measures_agree_with_counting(seed: int, share: float):
    random = torch.Generator().manual_seed(seed)
    soft = torch.rand(5, 6, generator=random)
    true = torch.rand(5, 6, generator=random) < share
    found = soft > 0.5
    scores = image_scores(soft, true)
    hits, union = int((found & true).sum()), int((found | true).sum())
    assert scores.iou == pytest.approx(hits / union if union else 1)
    recalls = [
        float((found == kind)[true == kind].float().mean()) if (true == kind).any() else 1.0
        for kind in (True, False)
    ]
    assert scores.recall == pytest.approx(recalls[0])
    assert scores.ber == pytest.approx(100 - 50 * sum(recalls), abs=1e-4)
    assert scores.mse <= scores.mae + 1e-6


# --- Over images --------------------------------------------------------------------------------


def test_a_mean_of_images_is_not_a_ratio_of_sums():
    """Number 17 again: a small object missed and a large one found."""
    images = [image_scores(rows(), rows(0)), image_scores(rows(0, 1, 2), rows(0, 1, 2))]
    means = mean_scores(images)
    assert (means["iou"], means["dataset_iou"], means["images"]) == (0.5, 0.75, 2)
    assert set(means) == {"images", "dataset_iou", *MEASURES}
    with pytest.raises(ValueError, match="no image"):
        mean_scores([])


def test_difficulties_are_measured_in_one_pass():
    perfect, missed = image_scores(rows(0), rows(0)), image_scores(rows(), rows(0))
    scores = scores_by_difficulty([("easy", perfect), ("hard", missed), ("easy", perfect)])
    assert list(scores) == ["easy", "hard", "mix"]
    assert [scores[name]["iou"] for name in scores] == [1, 0, pytest.approx(2 / 3)]
    assert [scores[name]["images"] for name in scores] == [2, 1, 3]
    # Version 2 has no difficulties.
    assert list(scores_by_difficulty([(None, perfect)])) == ["mix"]


def test_published_numbers_are_means_of_images():
    """Number 23 of the parity tests: 3491 easy and 937 hard images."""
    easy, hard = 3491 / 4428, 937 / 4428
    assert easy * 0.9214 + hard * 0.7346 == pytest.approx(0.8819, abs=1e-4)


# --- TransLab's protocol ------------------------------------------------------------------------

TRUE = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [0, 0, 0, 0]])
FOUND = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 2], [2, 2, 0, 0], [0, 0, 0, 0]])


def measured(*images: tuple[Tensor, Tensor], classes: int = 3) -> dict[str, float]:
    metric = TransLabScores(classes)
    for found, true in images:
        metric.update(found, true)
    return metric.compute()


def test_published_evaluator_by_hand():
    """Number 18 of the parity tests."""
    scores = measured((FOUND, TRUE))
    # Things: 3 of 5 pixels. Stuff: 2 of 5.
    assert (scores["iou_1"], scores["iou_2"]) == (pytest.approx(3 / 5), pytest.approx(2 / 5))
    assert scores["miou"] == pytest.approx(1 / 2)
    assert scores["acc"] == pytest.approx(5 / 8)
    # Stuff taken for the background is 2 classes off, twice; 2 other pixels are 1 off.
    assert scores["mae"] == pytest.approx((2 * 2 + 2 * 1) / 16)
    # Rejected of 12 others: 7 + 2 for things, 7 + 3 for stuff: mistakes among others count too.
    things, stuff = 100 * (1 - (3 / 4 + 9 / 12) / 2), 100 * (1 - (2 / 4 + 10 / 12) / 2)
    assert scores["mber"] == pytest.approx((things + stuff) / 2)


def test_areas_are_summed_but_errors_averaged_over_images():
    small = torch.tensor([[1, 0]]), torch.tensor([[0, 1]])
    scores = measured((FOUND, TRUE), small)
    assert scores["iou_1"] == pytest.approx(3 / 7)
    assert scores["mae"] == pytest.approx((6 / 16 + 1) / 2)


def test_a_class_that_occurs_nowhere_is_left_out():
    things = (TRUE == 1).long()
    scores = measured((things, things))
    assert scores == {"iou_1": 1, "miou": 1, "acc": 1, "mber": 0, "mae": 0}
    # What fills an image leaves nothing to reject.
    assert measured((torch.ones(2, 2), torch.ones(2, 2)))["mber"] == 0
    empty = torch.zeros(2, 2)
    assert measured((empty, empty)) == {"mae": 0}


@given(seed=st.integers(0, 10**6))
def test_with_classes_merged_both_protocols_sum_the_same_areas(seed: int):
    random = torch.Generator().manual_seed(seed)
    pairs = [torch.rand(2, 4, 5, generator=random) > 0.6 for _ in range(3)]
    images = [image_scores(found, true) for found, true in pairs]
    scores = measured(*((found.long(), true.long()) for found, true in pairs), classes=2)
    assert scores["miou"] == pytest.approx(mean_scores(images)["dataset_iou"])
    assert scores["mae"] == pytest.approx(mean_scores(images)["mae"])
