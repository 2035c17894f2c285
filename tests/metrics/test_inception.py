from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from seethrough.errors import InputError
from seethrough.metrics import inception
from seethrough.metrics.inception import frechet_distance, kernel_distance, load_inception


class Features(nn.Module):
    """Takes features for pictures."""

    num_features = 12

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def two_sets(count: int, other: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    mix = torch.randn(12, 12, generator=generator)
    predicted = torch.randn(count, 12, generator=generator) @ mix + 0.5
    return predicted, torch.randn(other or count, 12, generator=generator)


@pytest.mark.parametrize(("count", "other"), [(40, 40), (40, 25), (5, 7), (2, 2)])
def test_the_frechet_distance_is_that_of_torchmetrics(count: int, other: int):
    predicted, true = two_sets(count, other)
    theirs = FrechetInceptionDistance(feature=Features())
    theirs.update(true, real=True)
    theirs.update(predicted, real=False)
    assert frechet_distance(predicted, true) == pytest.approx(theirs.compute().item(), rel=1e-3)


def test_the_frechet_distance_of_equal_sets_is_zero():
    predicted, true = two_sets(30)
    assert frechet_distance(true, true) == pytest.approx(0, abs=1e-9)
    shifted = frechet_distance(predicted + 3, predicted)
    assert shifted == pytest.approx(9 * 12, rel=1e-4)
    with pytest.raises(ValueError, match="a set of 1 has no covariance"):
        frechet_distance(predicted[:1], true)


def test_the_kernel_distance_is_that_of_torchmetrics():
    predicted, true = two_sets(40)
    theirs = KernelInceptionDistance(feature=Features(), subsets=1, subset_size=40)
    theirs.update(true, real=True)
    theirs.update(predicted, real=False)
    assert kernel_distance(predicted, true) == pytest.approx(theirs.compute()[0].item(), rel=1e-3)


def test_the_kernel_distance_of_many_is_a_mean_over_the_same_subsets(
    monkeypatch: pytest.MonkeyPatch,
):
    predicted, true = two_sets(60)
    whole = kernel_distance(predicted, true)
    monkeypatch.setattr(inception, "SUBSET", 30)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    subsets = kernel_distance(predicted, true)
    assert subsets == kernel_distance(predicted, true)
    assert torch.equal(torch.get_rng_state(), state)
    assert subsets == pytest.approx(whole, rel=0.2)


def test_absent_and_foreign_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"FID and KID needs? it: get https://github\.com/toshas"):
        load_inception(None)
    other = tmp_path / "other.pth"
    torch.save({"a.weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="not the weights of torch-fidelity's Inception v3"):
        load_inception(other)
    torch.save({"a.weight": Path("x")}, other)
    with pytest.raises(InputError, match="refused"):
        load_inception(other)
