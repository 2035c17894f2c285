"""What is measured of one photo, from predicted pictures made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from seethrough.data.class_colours import paint, palette
from seethrough.data.trans10k import Pair
from seethrough.errors import InputError
from seethrough.evaluate.photo import check_classes, measure, pictures, small_comparison
from seethrough.evaluate.summary import markdown, summarize

PAIR = Pair(Path("0.jpg"), Path("0_mask.png"), "v1", "hard")

TRUE = np.zeros((24, 48), np.uint8)
TRUE[:12, :16], TRUE[:12, 24:40] = 1, 2


def grey_picture(*channels: float) -> Tensor:
    return torch.tensor(channels, dtype=torch.float32)[:, None, None].expand(3, 32, 32)


def test_the_published_mse_is_a_mean_over_three_channels() -> None:
    everywhere = np.ones((24, 48), np.uint8)
    scores = measure(PAIR, grey_picture(0.2, 0.5, 0.9), everywhere, classes=2, grid=32).image
    assert scores.mse == pytest.approx((0.8**2 + 0.5**2 + 0.1**2) / 3)
    # The threshold is put to the mean of the channels, and a half is not above it.
    assert scores.iou == 1
    half = grey_picture(0.25, 0.5, 0.75)
    assert measure(PAIR, half, everywhere, classes=2, grid=32).image.iou == 0


@pytest.mark.parametrize("grid", [None, 48])
def test_a_model_that_tells_classes_apart_is_right_in_both_protocols(grid: int | None) -> None:
    picture = paint(torch.from_numpy(TRUE)[None], palette(3))[0]
    scores = measure(PAIR, picture, TRUE, classes=3, grid=grid)
    assert scores.name == "hard/0"
    if grid is None:
        assert (scores.image.iou, scores.image.mae, scores.image.ber) == (1, 0, 0)
    else:
        assert scores.image.iou > 0.9
    means = summarize([scores], classes=3)
    assert set(means.translab["hard"]) == {"miou", "iou_1", "iou_2", "acc", "mae", "mber"}
    assert means.translab["mix"]["miou"] > 0.9
    # Things taken for stuff are found by the one, and wrong by the other.
    swapped = paint(torch.from_numpy(np.where(TRUE > 0, 3 - TRUE, 0))[None], palette(3))[0]
    wrong = measure(PAIR, swapped, TRUE, classes=3, grid=None)
    assert wrong.image.iou == 1
    assert summarize([wrong], classes=3).translab["mix"]["miou"] < 0.1


def test_what_can_t_be_measured_is_a_dash() -> None:
    nothing = np.zeros((24, 48), np.uint8)
    scores = measure(PAIR, grey_picture(0, 0, 0), nothing, classes=2, grid=None)
    assert (scores.image.iou, scores.image.recall) == (1, 1)
    row = markdown(summarize([scores], classes=2)).splitlines()[-1]
    assert row.startswith("| mix | 1 | 1.0000 | 1.0000 |") and row.endswith("| 0.0000 | - |")


def test_pictures_have_the_size_that_is_measured() -> None:
    photo = np.full((24, 48, 3), 90, np.uint8)
    picture = grey_picture(1, 1, 1)
    for grid, size in ((None, (24, 48)), (32, (32, 32))):
        made = pictures(photo, picture, TRUE, 2, grid)
        assert set(made) == {"_pred.png", "_maskq.png", "_maskgt.png", "_img.png"}
        assert all(one.shape[:2] == size for one in made.values())
    large = np.zeros((600, 1200), np.uint8)
    (small,) = small_comparison(np.zeros((600, 1200, 3), np.uint8), picture, large, 2).values()
    assert small.shape == (256, 512, 3)


def test_a_model_of_other_classes_than_the_dataset_is_named() -> None:
    check_classes(PAIR, 2)
    check_classes(PAIR, 3)
    with pytest.raises(InputError, match=r"version v1 of Trans10K has 3 classes, .* to tell 12"):
        check_classes(PAIR, 12)
