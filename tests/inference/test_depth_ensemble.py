"""Ensembles of depth: one scale and shift a run, over all its frames."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seethrough.inference import depth_ensemble
from seethrough.inference.depth_ensemble import ensemble_depths


def test_two_of_three_runs_agree() -> None:
    base = torch.linspace(0, 1, 64).reshape(8, 8)
    result = ensemble_depths(torch.stack([0.5 * base + 0.2, 0.8 * base + 0.1, base**1.2]))
    assert (result.min(), result.max()) == (0, 1)
    assert result.flatten()[[1, 20, 40]].tolist() == pytest.approx([0.0159, 0.3175, 0.6349], 1e-2)
    assert torch.allclose(result, base, atol=1e-4)


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.floats(-3, 3)), min_size=2, max_size=5),
    st.integers(0, 1000),
)
def test_runs_that_differ_by_scale_and_shift_alone(
    runs: list[tuple[float, float]], seed: int
) -> None:
    base = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    result = ensemble_depths(torch.stack([base * scale + shift for scale, shift in runs]))
    expected = (base - base.min()) / (base.max() - base.min())
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), expected, atol=1e-4)


def test_frames_keep_their_order_among_each_other() -> None:
    """Two flat frames: each on its own has no scale, together they have one."""
    near, far = torch.full((4, 4), 0.3), torch.full((4, 4), 0.4)
    runs = torch.stack([torch.stack([near, far]), torch.stack([near, far]) * 0.5 + 0.3])
    result = ensemble_depths(runs)
    assert torch.equal(result, torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]))


def test_noise_of_the_runs_partly_cancels() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.linspace(0, 1, 400).reshape(20, 20)
    runs = base + 0.1 * torch.randn(9, 20, 20, generator=generator)
    result = ensemble_depths(runs)
    alone = [ensemble_depths(run[None]) for run in runs]

    def error(depth: torch.Tensor) -> float:
        slope, shift = np.polyfit(depth.flatten(), base.flatten(), 1)
        return float((depth * slope + shift - base).square().mean())

    assert error(result) < 0.4 * np.mean([error(run) for run in alone])


def test_what_lies_outside_the_mask_changes_nothing_inside() -> None:
    runs = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    other = torch.where(mask, runs, 100 * runs)
    result = ensemble_depths(runs, mask)
    assert torch.equal(result[mask], ensemble_depths(other, mask)[mask])
    assert (result[mask].min(), result[mask].max()) == (0, 1)
    assert (result.min(), result.max()) == (0, 1)


def test_any_number_of_pixels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = ensemble_depths(runs)
    monkeypatch.setattr(depth_ensemble, "_CHUNK", 7)
    assert torch.equal(ensemble_depths(runs), expected)


def test_constant_runs_and_an_empty_mask() -> None:
    assert ensemble_depths(torch.ones(3, 2, 2)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="the mask is empty"):
        ensemble_depths(torch.ones(3, 2, 2), torch.zeros(2, 2, dtype=torch.bool))
