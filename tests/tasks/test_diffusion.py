"""The objective against published numbers, diffusers, and its own promise about randomness."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from seethrough.data.draws import Draw
from seethrough.recipes.objective import MarigoldObjective, Objective
from seethrough.tasks.diffusion import (
    Diffusion,
    min_snr_weights,
    timestep_weights,
    with_probability,
)
from tests.tasks.small import draw

PARITY = Path(__file__).parents[1] / "data" / "parity" / "min_snr.safetensors"
CPU = torch.device("cpu")
Kind = Literal["epsilon", "v_prediction", "sample"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL's training schedule on disk, as a base has it."""
    folder = tmp_path_factory.mktemp("scheduler")
    DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    ).save_pretrained(folder)
    return folder


def test_min_snr_weights_equal_the_reference(scheduler: Path) -> None:
    vector = load_file(PARITY)
    timesteps, snr = vector["timesteps"].long(), vector["snr"]
    names: dict[Kind, str] = {"epsilon": "weight_eps_gamma5", "v_prediction": "weight_v_gamma5"}
    for kind, name in names.items():
        torch.testing.assert_close(min_snr_weights(snr, 5.0, kind), vector[name])
        weights = Diffusion(Objective(), scheduler, kind).weights(timesteps)
        torch.testing.assert_close(weights, vector[name], rtol=1e-4, atol=0)


def test_min_snr_in_units_of_the_latents_is_the_same_for_every_prediction() -> None:
    """A network's error in the clean latents weighs the same whatever the network predicts.

    x = alpha x0 + sigma e gives error(e) = snr error(x0) and error(v) = (snr + 1) error(x0).
    """
    snr = torch.logspace(-3, 3, 13)
    expected = snr.clamp(max=5.0)
    torch.testing.assert_close(min_snr_weights(snr, 5.0, "sample"), expected)
    torch.testing.assert_close(min_snr_weights(snr, 5.0, "epsilon") * snr, expected)
    torch.testing.assert_close(min_snr_weights(snr, 5.0, "v_prediction") * (snr + 1), expected)


def test_no_gamma_weighs_all_alike(scheduler: Path) -> None:
    weights = Diffusion(Objective(snr_gamma=None), scheduler).weights(torch.tensor([0, 500, 999]))
    assert weights.dtype == torch.float32 and weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_noising_and_targets_are_those_of_diffusers(scheduler: Path, kind: Kind) -> None:
    diffusion = Diffusion(Objective(), scheduler, kind)
    latents, noise = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    timesteps = torch.tensor([20, 940])
    config = json.loads((scheduler / "scheduler_config.json").read_text())
    betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000).double()
    kept = torch.cumprod(1 - betas**2, 0)[timesteps].view(2, 1, 1, 1, 1)
    signal, sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
    noisy = diffusion.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, signal * latents + sigma * noise)
    velocity = signal * noise - sigma * latents
    expected = {"epsilon": noise, "sample": latents, "v_prediction": velocity}[kind]
    torch.testing.assert_close(diffusion.target(latents, noise, timesteps), expected)
    reference: Any = DDPMScheduler.from_pretrained(scheduler)
    torch.testing.assert_close(noisy, reference.add_noise(latents, noise, timesteps))


@pytest.fixture(scope="session")
def marigold_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schedule of Marigold's published base, which is saved for DDIM."""
    folder = tmp_path_factory.mktemp("marigold_scheduler")
    DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder)
    return folder


def test_the_schedule_of_the_base_leaves_nothing_at_its_last_timestep(
    marigold_scheduler: Path,
) -> None:
    """Values of the reference, with its own scheduler."""
    diffusion = Diffusion(MarigoldObjective(), marigold_scheduler)
    kept = diffusion.scheduler.alphas_cumprod
    expected = {
        0: 0.99914998, 1: 0.99823350, 249: 0.65418869, 499: 0.24235900, 749: 0.03317146,
        998: 1.96796e-7,
    }  # fmt: skip
    for timestep, value in expected.items():
        assert kept[timestep].item() == pytest.approx(value, rel=1e-5, abs=1e-9)
    assert kept[999] == 0


def test_the_base_says_what_is_predicted_unless_the_recipe_does(
    marigold_scheduler: Path, scheduler: Path
) -> None:
    assert Diffusion(MarigoldObjective(), marigold_scheduler).prediction_type == "v_prediction"
    assert Diffusion(MarigoldObjective(), scheduler).prediction_type == "epsilon"
    assert Diffusion(Objective(), marigold_scheduler, "sample").prediction_type == "sample"


@pytest.mark.parametrize(
    ("timestep", "noisy", "velocity"), [(499, -0.6242759, -0.9275125), (999, -1.0, -0.5)]
)
def test_noising_and_velocity_of_the_reference(
    marigold_scheduler: Path, timestep: int, noisy: float, velocity: float
) -> None:
    """In bfloat16 the published program has -0.625 at timestep 499: here the schedule is exact."""
    diffusion = Diffusion(MarigoldObjective(), marigold_scheduler)
    latents, noise = torch.full((1, 4, 2, 2), 0.5), torch.full((1, 4, 2, 2), -1.0)
    at = torch.tensor([timestep])
    for dtype in (torch.float32, torch.bfloat16):
        found = diffusion.add_noise(latents.to(dtype), noise, at)
        torch.testing.assert_close(found, torch.full_like(noise, noisy), rtol=0, atol=1e-6)
        target = diffusion.target(latents.to(dtype), noise, at)
        torch.testing.assert_close(target, torch.full_like(noise, velocity), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_numbers_where_nothing_of_the_latents_is_left(
    marigold_scheduler: Path, kind: Kind
) -> None:
    """The SNR is 0 there: only an error of the noise, the input itself, weighs anything."""
    objective = MarigoldObjective(snr_gamma=5.0)
    weights = Diffusion(objective, marigold_scheduler, kind).weights(torch.tensor([999, 0]))
    assert weights.isfinite().all()
    assert weights[0] == (1 if kind == "epsilon" else 0)


def test_the_error_is_a_weighted_mean_of_each_frame(scheduler: Path) -> None:
    diffusion = Diffusion(Objective(snr_gamma=5.0), scheduler)
    latents, noise = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    timesteps = torch.tensor([10, 750])
    prediction = torch.randn(2, 3, 4, 5, 6)
    error = diffusion.squared_error(prediction.half(), latents, noise, timesteps)
    assert error.shape == (2, 3) and error.dtype == torch.float32
    weights = torch.tensor([0.0483057, 1.0])
    expected = ((prediction - noise) ** 2).mean((2, 3, 4)) * weights[:, None]
    torch.testing.assert_close(error, expected, rtol=5e-3, atol=1e-4)
    single = diffusion.squared_error(prediction[:, 0], latents[:, 0], noise[:, 0], timesteps)
    torch.testing.assert_close(single, expected[:, 0], rtol=1e-4, atol=1e-6)


def test_timestep_weights_of_each_strategy() -> None:
    def favoured(**values: Any) -> list[int]:
        weights = timestep_weights(Objective(timestep_bias_multiplier=3.0, **values), 1000)
        assert set(np.unique(weights)) <= {1.0, 3.0}
        return np.flatnonzero(weights == 3.0).tolist()

    assert favoured(timestep_bias="none") == []
    assert favoured(timestep_bias="earlier", timestep_bias_portion=0.2) == list(range(200))
    assert favoured(timestep_bias="later", timestep_bias_portion=0.2) == list(range(800, 1000))
    assert favoured(timestep_bias="later", timestep_bias_portion=0.0) == []
    assert favoured(timestep_bias="range", timestep_bias_range=(3, 7)) == [3, 4, 5, 6]


def test_drawn_timesteps_follow_the_weights(scheduler: Path) -> None:
    draws = [draw(i) for i in range(4000)]
    plain = Diffusion(Objective(), scheduler).timesteps(draws, CPU)
    assert plain.dtype == torch.int64
    assert plain.min() >= 0 and plain.max() <= 999 and len(plain.unique()) > 900
    # In each tenth a tenth of 4,000, give or take five deviations of 19.
    assert (torch.histc(plain.float(), 10, 0, 1000) - 400).abs().max() < 95
    biased = Objective(
        timestep_bias="range", timestep_bias_range=(100, 200), timestep_bias_multiplier=9.0
    )
    steps = Diffusion(biased, scheduler).timesteps(draws, CPU)
    inside = ((steps >= 100) & (steps < 200)).float().mean()
    assert abs(float(inside) - 0.5) < 0.05
    never = Objective(
        timestep_bias="range", timestep_bias_range=(0, 999), timestep_bias_multiplier=1e-12
    )
    assert (Diffusion(never, scheduler).timesteps(draws[:50], CPU) == 999).all()


numbers = st.integers(0, 2**40)
places = st.builds(
    Draw, seed=numbers, stage=st.text(max_size=5), step=numbers, index=numbers, sample=numbers
)


@given(st.lists(places, min_size=1, max_size=4), st.data())
def test_random_numbers_are_a_function_of_the_draw_alone(
    scheduler: Path, draws: list[Draw], data: st.DataObject
) -> None:
    """Not of the batch: any choice of draws in any order gets the same rows."""
    diffusion = Diffusion(Objective(), scheduler)
    chosen = data.draw(st.lists(st.integers(0, len(draws) - 1), min_size=1, max_size=4))
    batch = [draws[i] for i in chosen]
    assert torch.equal(diffusion.timesteps(batch, CPU), diffusion.timesteps(draws, CPU)[chosen])
    drops = with_probability(draws, "any", 0.5)
    assert with_probability(batch, "any", 0.5) == [drops[i] for i in chosen]


def test_probabilities_are_kept() -> None:
    draws = [draw(i) for i in range(2000)]
    assert not any(with_probability(draws, "drop", 0.0))
    assert all(with_probability(draws, "drop", 1.0))
    assert abs(np.mean(with_probability(draws, "drop", 0.25)) - 0.25) < 0.05
    assert with_probability(draws, "drop", 0.5) != with_probability(draws, "other", 0.5)


def test_the_loss_is_split_by_quarter_of_the_timesteps(scheduler: Path) -> None:
    diffusion = Diffusion(Objective(), scheduler)
    timesteps = torch.tensor([0, 249, 250, 999, 750, 10])
    errors = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], requires_grad=True)
    counts = torch.tensor([1.0, 1.0, 13.0, 11.0, 1.0, 0.5])
    parts = diffusion.quarters(errors, counts, timesteps)
    assert parts.names == ("t000-249", "t250-499", "t500-749", "t750-999")
    assert parts.sums.tolist() == [35.0, 4.0, 0.0, 24.0] and not parts.sums.requires_grad
    assert parts.counts.tolist() == [2.5, 13.0, 0.0, 12.0]


@given(count=st.integers(1, 300))
def test_even_timesteps_cover_the_range(count: int) -> None:
    # Only the number of timesteps matters here.
    diffusion = Diffusion.__new__(Diffusion)
    diffusion.count = 1000
    steps = diffusion.even_timesteps(count)
    assert len(steps) == count and steps[0] >= 0 and steps[-1] < 1000
    edges = [-steps[0] - 1, *steps, 2000 - steps[-1] - 1]
    gaps = np.diff(edges)
    assert gaps.max() - gaps.min() <= 2
