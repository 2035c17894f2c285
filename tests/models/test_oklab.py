"""OKLab against published values."""

import pytest
import torch

from seethrough.models.oklab import oklab


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (0.627955, 0.224863, 0.125846)),
        ((0.2, 0.4, 0.6), (0.499314, -0.033043, -0.092967)),
    ],
)
def test_colours(rgb: tuple[float, ...], expected: tuple[float, ...]) -> None:
    pictures = torch.rand(2, 3, 4, 6)
    pictures[1, :, 2, 5] = torch.tensor(rgb)
    found = oklab(pictures)
    assert found.shape == pictures.shape
    assert found[1, :, 2, 5].tolist() == pytest.approx(expected, abs=2e-5)


def test_gradients_are_finite_at_black_and_beyond_the_range() -> None:
    pictures = torch.tensor([-0.5, 0.0, 0.04045, 1.0, 1.5]).repeat(1, 3, 1, 1).requires_grad_()
    oklab(pictures).sum().backward()
    assert pictures.grad is not None and pictures.grad.isfinite().all()
    assert (pictures.grad.sum(1) > 0).all()
