"""Alignment and measures of depth, against the reference's numbers and NumPy's least squares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seethrough.metrics.depth import (
    DEPTH_MEASURES,
    DepthMetrics,
    align_least_squares,
    align_median,
    depth_errors,
)
from tests.data.parity import rule


def reference() -> tuple[dict[str, float], Tensor, Tensor, Tensor]:
    """The vector's numbers, and the predicted depth, true depth and mask they are of."""
    spec, numbers = rule.read_vector("depth_losses_a")
    draws = {
        name: rule.normal(f"input:depth_losses_a:{name}", spec["shape"]).double()
        for name in ("pred", "gt", "mask")
    }
    predicted, true = draws["pred"].abs() * 0.7 + 0.3, draws["gt"].abs() + 0.5
    return {k: v.item() for k, v in numbers.items()}, predicted, true, draws["mask"] > -0.8


def random_depth(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_measures_of_the_reference_vector() -> None:
    numbers, predicted, true, mask = reference()
    errors = depth_errors(predicted, true, mask)
    published = {k.removeprefix("metric:"): v for k, v in numbers.items() if "metric:" in k}
    assert {k: errors[k] for k in published} == pytest.approx(published, rel=1e-6)
    assert errors.keys() - published.keys() == {"i_rmse"}


def test_least_squares_of_the_reference_vector() -> None:
    numbers, predicted, true, mask = reference()
    alignment = align_least_squares(predicted[0], true[0], mask[0])
    found = [alignment.scale.item(), alignment.shift.item()]
    assert found == pytest.approx([numbers["lstsq_scale"], numbers["lstsq_shift"]], rel=1e-6)


def test_measures_by_hand() -> None:
    true = torch.tensor([[0.5, 1], [0.25, -0.3]], dtype=torch.float64)
    predicted = torch.tensor([[0.4, 1.1], [0.5, 0.2]], dtype=torch.float64)
    assert depth_errors(predicted, true, true > 0) == pytest.approx(
        {
            "abs_rel": 0.433333,
            "sq_rel": 0.093333,
            "rmse": 0.165831,
            "rmse_log": 0.424001,
            "log_10": 0.146444,
            "silog": 37.982605,
            "i_rmse": np.sqrt(((2 - 2.5) ** 2 + (1 - 1 / 1.1) ** 2 + (4 - 2) ** 2) / 3),
            "a1": 1 / 3,
            "a2": 2 / 3,
            "a3": 2 / 3,
        },
        rel=1e-5,
    )


def test_half_the_depth() -> None:
    errors = depth_errors(torch.full((3, 3), 0.5), torch.ones(3, 3))
    expected = {"abs_rel": 0.5, "log_10": 0.30103, "rmse_log": 0.69315, "silog": 0, "sq_rel": 0.25}
    assert {k: errors[k] for k in expected} == pytest.approx(expected, abs=1e-5)


def test_true_depth_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"positive ones, the least true depth is -1\.0"):
        depth_errors(torch.ones(2), torch.tensor([1.0, -1.0]))


def test_alignments_by_hand() -> None:
    predicted = torch.tensor([[0, 0.25], [0.5, 1]])
    true = torch.tensor([[1, 0.6], [0.1, -1]])
    whole = align_least_squares(predicted, true)
    assert (whole.scale.item(), whole.shift.item()) == pytest.approx((-2.022857, 1.06), abs=1e-6)
    mask = torch.tensor([[True, True], [True, False]])
    part = align_least_squares(predicted, true, mask)
    assert (part.scale.item(), part.shift.item()) == pytest.approx((-1.8, 1.016667), abs=1e-6)
    middle = align_median(torch.tensor([0.0, 1, 5]), torch.tensor([2.0, 4, 12]))
    assert (middle.scale.item(), middle.shift.item()) == pytest.approx((2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_constant_prediction_becomes_the_mean(dtype: torch.dtype) -> None:
    predicted, true = torch.full((40, 40), 0.3, dtype=dtype), torch.ones(40, 40)
    alignment = align_least_squares(predicted, true)
    assert alignment.scale.item() == pytest.approx(0.27523, abs=1e-4)
    assert alignment.shift.item() == pytest.approx(0.91743, abs=1e-4)
    assert alignment(predicted).dtype == dtype
    for align in (align_least_squares, align_median):
        assert torch.allclose(align(predicted, true)(predicted), true.to(dtype), rtol=1e-3)
    zero = torch.zeros(3)
    assert align_least_squares(zero, zero + 2)(zero).tolist() == [2, 2, 2]


@given(st.integers(0, 10**6), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_least_squares_is_numpys(seed: int, offset: float, spread: float) -> None:
    predicted, true = random_depth(seed, 2, 30) * spread + offset, random_depth(seed + 1, 2, 30)
    mask = random_depth(seed + 2, 2, 30) < 0.8
    alignment = align_least_squares(predicted, true, mask)
    p, g = predicted[mask].numpy(), true[mask].numpy()
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), g, rcond=None)[0]
    found = (predicted * alignment.scale + alignment.shift).numpy()
    assert np.allclose(found, predicted.numpy() * scale + shift, atol=1e-6)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_both_alignments_undo_a_scale_and_a_shift(seed: int, scale: float, shift: float) -> None:
    true = random_depth(seed, 50)
    for align in (align_least_squares, align_median):
        predicted = true * scale + shift
        assert torch.allclose(align(predicted, true)(predicted), true, atol=1e-9)


def test_the_median_ignores_what_is_far_off() -> None:
    true = random_depth(0, 101)
    predicted = true * 3 + 1
    predicted[true.argmax()] = 1e4
    others = true < true.max()
    median = align_median(predicted, true)
    assert median.shift + median.scale * predicted.median() == true.median()
    squares = align_least_squares(predicted, true)
    errors = [(a(predicted) - true)[others].abs().median() for a in (median, squares)]
    assert errors[0] < errors[1] * 2  # the least squares fit is flat, the spread is moved


def test_an_empty_mask_is_refused() -> None:
    one = torch.ones(2, 2)
    with pytest.raises(ValueError, match="no pixel counts"):
        align_least_squares(one, one, one < 0)
    with pytest.raises(ValueError, match="shapes differ"):
        align_median(one, one[0])


class TestDepthMetrics:
    @pytest.mark.parametrize("alignment", ["least_squares", "median"])
    def test_a_prediction_that_is_right_up_to_scale_and_shift(self, alignment: str) -> None:
        metrics = DepthMetrics(alignment)  # pyright: ignore[reportArgumentType]
        true = random_depth(1, 3, 8, 8) * 2 - 1
        metrics.update(true * 0.1 + 7, true, torch.ones(3, 8, 8, dtype=torch.bool))
        found = metrics.compute()
        assert list(found) == list(DEPTH_MEASURES)
        best = {measure: float(measure in ("a1", "a2", "a3")) for measure in DEPTH_MEASURES}
        assert found == pytest.approx(best, abs=1e-6)

    def test_depth_is_measured_from_1_to_2(self) -> None:
        """A flat prediction ends in the middle, 0.5 from the near end and from the far one."""
        true = torch.tensor([-1.0, 1])
        metrics = DepthMetrics()
        metrics.update(torch.full((2,), 0.3), true, torch.ones(2, dtype=torch.bool))
        found = metrics.compute()
        assert found["abs_rel"] == pytest.approx((0.5 / 1 + 0.5 / 2) / 2)
        assert found["rmse"] == pytest.approx(0.5)

    def test_near_pixels_count_as_far_ones_do(self) -> None:
        """A near half that is all wrong must show: the published validation did not see it."""
        true = torch.linspace(-1, 1, 64, dtype=torch.float64)
        predicted = true.clone()
        predicted[:32] = true[:32].flip(0)
        metrics = DepthMetrics()
        metrics.update(predicted, true, torch.ones(64, dtype=torch.bool))
        assert metrics.compute()["abs_rel"] > 0.05

    def test_frames_share_one_alignment(self) -> None:
        """Two frames, each flat and exact on its own, but the wrong way round."""
        true = torch.stack([torch.full((4, 4), -0.5), torch.full((4, 4), 0.5)])
        metrics = DepthMetrics("median")
        metrics.update(true.flip(0), true, torch.ones(2, 4, 4, dtype=torch.bool))
        assert metrics.compute()["rmse"] > 0.1

    def test_what_lies_outside_the_mask_changes_nothing(self) -> None:
        true, mask = random_depth(1, 4, 6, 6) * 2 - 1, random_depth(2, 4, 6, 6) < 0.5
        mask[3] = False  # an absent frame
        found = []
        for outside in (0.0, 1e6):
            metrics = DepthMetrics()
            predicted = torch.where(mask, random_depth(3, 4, 6, 6), outside)
            metrics.update(predicted, true, mask)
            found.append(metrics.compute())
        assert found[0] == found[1]

    def test_characters_count_equally(self) -> None:
        def scores(*rows: int) -> dict[str, float]:
            metrics = DepthMetrics()
            for row in rows:
                size = 4 + 10 * row
                true = random_depth(row, size, size) * 2 - 1
                mask = torch.ones(size, size, dtype=torch.bool)
                metrics.update(random_depth(row + 10, size, size), true, mask)
            metrics.update(torch.ones(3), torch.ones(3), torch.zeros(3, dtype=torch.bool))
            return metrics.compute()

        both, one, other = scores(0, 1), scores(0), scores(1)
        assert both == pytest.approx({k: (one[k] + other[k]) / 2 for k in one})

    @pytest.mark.filterwarnings("ignore:The ``compute`` method")
    def test_without_characters(self) -> None:
        assert all(np.isnan(value) for value in DepthMetrics().compute().values())
