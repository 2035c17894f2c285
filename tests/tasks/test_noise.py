"""Noise: of the draws alone, and in several resolutions as in the reference's numbers."""

from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.recipes.objective import Downscale, MarigoldObjective
from seethrough.tasks.noise import (
    annealed,
    depth_noise,
    level_sizes,
    multi_res_noise,
    normal,
    offset_noise,
)
from tests.tasks.small import draw

CPU = torch.device("cpu")
DOWNSCALES: tuple[Downscale, ...] = get_args(Downscale)


class Torch:
    """Random numbers of one torch generator, which the published program draws from."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self) -> float:
        return float(torch.rand(1, generator=self.generator))

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator)


def noise(
    seed: int, shape: tuple[int, ...], strength: float | Tensor, downscale: Downscale = "original"
) -> Tensor:
    random = Torch(seed)
    return multi_res_noise(shape, strength, downscale, random.uniform, random.normal)


def test_values_of_the_reference() -> None:
    strength = torch.tensor([0.45, 0.09]).view(-1, 1, 1, 1)
    found = noise(41, (2, 4, 16, 16), strength)
    assert found.std().item() == pytest.approx(1, abs=1e-6)
    assert found.mean().item() == pytest.approx(-0.0131025, abs=1e-6)
    first, last = found[0, 0, 0, :4].tolist(), found[1, 3, 15, -4:].tolist()
    assert first == pytest.approx([-0.527424, 0.054965, -1.133444, 0.540913], abs=1e-5)
    assert last == pytest.approx([0.243731, -1.482973, 0.672401, -1.547919], abs=1e-5)
    # Normalised as one: no sample has a deviation of 1.
    assert found.std((1, 2, 3)).tolist() == pytest.approx([1.05145, 0.94575], abs=1e-5)


@pytest.mark.parametrize(
    ("seed", "side", "downscale", "expected"),
    [
        (0, 96, "original", [1.470975, 1.541413, 1.727729, 2.063514]),
        (41, 16, "every_layer", [0.125838, -0.273874, -0.774314, 0.104477]),
        (41, 16, "power_of_two", [0.775244, 0.199223, -0.711833, 0.687678]),
        (41, 16, "random_step", [0.927826, 0.399113, -0.380753, 0.570300]),
    ],
)
def test_values_of_the_reference_of_every_way_of_downscaling(
    seed: int, side: int, downscale: Downscale, expected: list[float]
) -> None:
    found = noise(seed, (1, 4, side, side), 0.9, downscale)
    assert found[0, 0, 0, :4].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("seed", "expected"), [(0, [96, 40, 2, 1]), (1, [96, 39, 8, 1]), (2, [96, 29, 2, 1])]
)
def test_level_sizes_of_the_reference(seed: int, expected: list[int]) -> None:
    random = Torch(seed)
    random.normal((1, 4, 96, 96))
    found: list[int] = []
    for height, width in level_sizes((96, 96), "original", random.uniform):
        assert height == width
        found.append(height)
        random.normal((1, 4, height, width))  # between the factors, as the noise is made
    assert found == expected


sides = st.integers(1, 40)


@given(sides, sides, st.sampled_from(DOWNSCALES), st.floats(0, 0.999))
def test_levels_end_at_one_pixel_and_never_grow(
    height: int, width: int, downscale: Downscale, number: float
) -> None:
    found = list(level_sizes((height, width), downscale, lambda: number))
    assert len(found) <= 10
    previous = (height, width)
    for size in found:
        assert all(1 <= side <= before for side, before in zip(size, previous, strict=True))
        previous = size
    if found:
        assert min(previous) == 1


@given(st.sampled_from(DOWNSCALES), st.floats(0, 1), st.integers(0, 99))
def test_the_deviation_is_one(downscale: Downscale, strength: float, seed: int) -> None:
    found = noise(seed, (3, 4, 8, 12), strength, downscale)
    assert found.shape == (3, 4, 8, 12) and found.dtype == torch.float32
    assert found.std().item() == pytest.approx(1, abs=1e-5)


def test_coarse_levels_carry_wide_structure() -> None:
    """The mean over a quarter of a channel is far larger than with plain noise."""

    def spread(strength: float) -> float:
        values = torch.stack([noise(seed, (1, 4, 32, 32), strength) for seed in range(20)])
        return values[..., :16, :16].mean((-1, -2)).std().item()

    assert spread(0.0) < 0.1 < 0.3 < spread(0.9)


def test_annealing_is_in_proportion_to_the_timestep() -> None:
    found = annealed(0.9, torch.tensor([0, 500, 999]), 1000)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0, 0.45, 0.8991], abs=1e-6)
    # Without strength the first level is left, with all its weight.
    plain, random = noise(3, (1, 4, 8, 8), found[0]), Torch(3)
    whole = random.normal((1, 4, 8, 8))
    random.uniform()
    whole = whole + random.normal((1, 4, 8, 8))
    torch.testing.assert_close(plain, whole / whole.std())


# Of the draws


numbers = st.integers(0, 2**40)
places = st.builds(
    Draw, seed=numbers, stage=st.text(max_size=5), step=numbers, index=numbers, sample=numbers
)


@given(st.lists(places, min_size=1, max_size=4), st.data())
def test_noise_is_a_function_of_the_draw_alone(draws: list[Draw], data: st.DataObject) -> None:
    """Not of the batch: any choice of draws in any order gets the same rows."""
    chosen = data.draw(st.lists(st.integers(0, len(draws) - 1), min_size=1, max_size=4))
    batch, shape = [draws[i] for i in chosen], (2, 4, 3, 3)
    timesteps = torch.arange(len(draws)) * 100 + 50

    def both(draws: list[Draw], timesteps: Tensor) -> list[Tensor]:
        depth = depth_noise(draws, shape, MarigoldObjective(), timesteps, 1000)
        return [offset_noise(draws, shape, 0.1, CPU), depth]

    for noise, rows in zip(both(draws, timesteps), both(batch, timesteps[chosen]), strict=True):
        assert noise.shape == (len(draws), *shape) and noise.dtype == torch.float32
        assert torch.equal(rows, noise[chosen])


def test_noise_is_standard_normal_and_independent() -> None:
    noise = normal([draw(i) for i in range(8)], "noise", (3, 4, 16, 16), CPU)
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    rows = noise.flatten(1)
    correlation = torch.corrcoef(rows) - torch.eye(8)
    assert correlation.abs().max() < 0.1
    frames = noise[0].flatten(1)
    assert (torch.corrcoef(frames) - torch.eye(3)).abs().max() < 0.2
    assert not torch.equal(noise, normal([draw(i) for i in range(8)], "other", (3, 4, 16, 16), CPU))


def test_the_noise_offset_is_constant_over_a_channel_of_a_frame() -> None:
    draws, shape = [draw(0), draw(1)], (3, 4, 8, 8)
    plain, shifted = (offset_noise(draws, shape, size, CPU) for size in (0.0, 0.5))
    offset = shifted - plain
    assert offset.shape == (2, 3, 4, 8, 8)
    torch.testing.assert_close(offset, offset[..., :1, :1].expand_as(offset), rtol=0, atol=1e-6)
    sizes = offset[..., 0, 0] / 0.5
    # Numbers of their own, not the first ones of the noise.
    assert not torch.allclose(sizes, normal(draws, "noise", (3, 4), CPU), atol=1e-3)
    assert len(sizes.flatten().unique()) == 24 and 0.5 < float(sizes.std()) < 1.5


def test_frames_have_noise_of_their_own_at_a_common_strength() -> None:
    draws, timesteps = [draw(0), draw(1)], torch.tensor([100, 900])
    found = depth_noise(draws, (3, 4, 16, 16), MarigoldObjective(), timesteps, 1000)
    torch.testing.assert_close(found.flatten(1).std(1), torch.ones(2), rtol=0, atol=1e-5)
    spread = found[..., :8, :8].mean((-1, -2)).flatten(1).std(1)
    assert 2 * spread[0] < spread[1]
    assert len(found[1, :, 0, 0, 0].unique()) == 3
    alone = depth_noise(draws, (4, 16, 16), MarigoldObjective(), timesteps, 1000)
    assert alone.shape == (2, 4, 16, 16)


def test_options_of_the_recipe_reach_the_noise() -> None:
    draws, shape, timesteps = [draw(0)], (4, 16, 16), torch.tensor([500])

    def made(**values: Any) -> Tensor:
        return depth_noise(draws, shape, MarigoldObjective(**values), timesteps, 1000)

    assert torch.equal(made(noise_strength=0.0), normal(draws, "noise", shape, CPU))
    assert torch.equal(made(), made(noise_strength=0.45, noise_annealed=False))
    last = {"timestep_bias": "range", "timestep_bias_range": (999, 1000)}
    assert torch.equal(made(noise="zeros", **last), torch.zeros(1, *shape))
    kinds = [made(noise_downscale=downscale) for downscale in DOWNSCALES]
    assert all(not torch.equal(one, other) for one, other in pairwise(kinds))
