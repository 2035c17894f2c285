"""Losses of depth against the reference's numbers, and where they are in danger of NaN."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seethrough.metrics.depth_losses import (
    affine_invariant_loss,
    gradient_matching_loss,
    scale_and_shift_invariant_loss,
    scale_invariant_log_loss,
)
from tests.data.parity import rule

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "affine_invariant": affine_invariant_loss,
    "gradient_matching": gradient_matching_loss,
    "silog": scale_invariant_log_loss,
    "scale_shift_invariant": scale_and_shift_invariant_loss,
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def sixteenths() -> tuple[Tensor, Tensor, Tensor]:
    """k / 16 as the prediction, its square as the truth, all but the first pixel valid."""
    predicted = (torch.arange(16, dtype=torch.float64) / 16).reshape(1, 1, 4, 4)
    return predicted, predicted.square(), predicted > 0


@each_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_reference_vector(name: str, dtype: torch.dtype) -> None:
    spec, numbers = rule.read_vector("depth_losses_a")
    predicted, true, mask = (
        rule.normal(f"input:depth_losses_a:{key}", spec["shape"]).to(dtype)
        for key in ("pred", "gt", "mask")
    )
    found = LOSSES[name](predicted.abs() * 0.7 + 0.3, true.abs() + 0.5, mask > -0.8)
    tolerance = 1e-5 if dtype == torch.float64 else 1e-4
    assert found.item() == pytest.approx(numbers[name].item(), rel=tolerance)


def test_by_hand() -> None:
    predicted, true, mask = sixteenths()
    assert gradient_matching_loss(predicted, true, mask).item() == pytest.approx(0.1030345)
    assert affine_invariant_loss(predicted, true, mask).item() == pytest.approx(0.3124987)
    copies = [values.repeat(2, 1, 1, 1) for values in (predicted, true, mask)]
    assert scale_and_shift_invariant_loss(*copies).item() == pytest.approx(0.05625)
    silog = scale_invariant_log_loss(predicted + 0.1, true + 0.1, mask)
    assert silog.item() == pytest.approx(0.4022627)


@pytest.mark.parametrize("name", ["affine_invariant", "scale_shift_invariant"])
def test_blind_to_scale_and_shift(name: str) -> None:
    predicted, _, mask = sixteenths()
    assert LOSSES[name](predicted, 3 * predicted + 2, mask) < 1e-5


@each_loss
@pytest.mark.parametrize("case", ["nothing valid", "all equal", "constant"])
def test_values_and_gradients_are_finite(name: str, case: str) -> None:
    predicted, true, mask = sixteenths()
    predicted = (torch.ones_like(true) if case == "constant" else predicted + 0.1).requires_grad_()
    if case == "nothing valid":
        mask = torch.zeros_like(mask)
    true = predicted.detach().clone() if case == "all equal" else true + 0.1
    loss = LOSSES[name](predicted, true, mask)
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad is not None and predicted.grad.isfinite().all()
    if case == "nothing valid":
        assert loss == 0
