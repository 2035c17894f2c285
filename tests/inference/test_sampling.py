import numpy as np
import pytest
import torch

from seethrough.inference.sampling import Solver, sample_latents, solve


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_thirty_steps_have_the_published_timesteps_and_sigmas():
    scheduler = Solver().build(30)
    assert scheduler.timesteps.tolist() == list(range(961, 32, -32))
    sigmas = scheduler.sigmas.tolist()
    assert sigmas[:3] == pytest.approx([11.676050, 9.754844, 8.216094], abs=1e-5)
    assert sigmas[-3:] == pytest.approx([0.262845, 0.179259, 0.0], abs=1e-5)
    assert scheduler.init_noise_sigma == 1.0
    # Else the first step looks its timestep up on the device and waits for it.
    assert scheduler.begin_index == 0


def test_five_steps_with_given_noise():
    # Reference trajectory of an affine noise prediction under injected noise.
    scheduler = Solver().build(5)
    assert scheduler.timesteps.tolist() == [831, 665, 499, 333, 167]
    offset = torch.tensor([0.2, -0.3])
    seen: list[torch.Tensor] = []

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.append(latents)
        assert timesteps.shape == (1,)
        return 0.1 * latents + offset

    last = solve(
        predict,
        scheduler,
        torch.tensor([[1.0, -0.5]]),
        lambda step: torch.tensor([[0.5, -0.25]]) * (step + 1) / 5,
    )
    trajectory = torch.cat([*seen[1:], last])
    expected = [
        [1.594146, -0.505912],
        [2.287856, -0.459133],
        [2.959103, -0.398596],
        [3.453998, -0.327816],
        [3.583724, -0.201109],
    ]
    torch.testing.assert_close(trajectory, torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_leads_to_the_clean_latents(prediction_type: str):
    solver = Solver(prediction_type=prediction_type)
    clean = torch.linspace(-1, 1, 2 * 3 * 4 * 2 * 2).view(2, 3, 4, 2, 2)
    acp = solver.build(1).alphas_cumprod

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        a = acp[timesteps].view(-1, 1, 1, 1, 1)
        eps = (latents - a.sqrt() * clean) / (1 - a).sqrt()
        if prediction_type == "epsilon":
            return eps
        return clean if prediction_type == "sample" else a.sqrt() * eps - (1 - a).sqrt() * clean

    latents = sample_latents(
        predict,
        solver=solver,
        steps=4,
        shape=(3, 4, 2, 2),
        generators=[generator(0), generator(1)],
    )
    torch.testing.assert_close(latents, clean, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("steps", "timesteps"), [(1, [999]), (2, [999, 499])])
def test_few_steps_with_trailing_spacing_begin_in_noise(steps: int, timesteps: list[int]):
    solver = Solver(prediction_type="sample", timestep_spacing="trailing")
    assert solver.build(steps).timesteps.tolist() == timesteps
    asked: list[int] = []
    clean = torch.linspace(-1, 1, 16).view(1, 1, 1, 4, 4)

    def predict(latents: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        asked.extend(at.tolist())
        return clean

    latents = sample_latents(
        predict, solver=solver, steps=steps, shape=(1, 1, 4, 4), generators=[generator(0)]
    )
    assert asked == timesteps
    assert torch.equal(latents, clean)


def shrink(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return 0.3 * latents + 0.001 * timesteps.view(-1, 1, 1, 1, 1)


def run(seeds: list[int], shared_init_noise: bool = True) -> torch.Tensor:
    return sample_latents(
        shrink,
        solver=Solver(),
        steps=3,
        shape=(2, 4, 3, 5),
        generators=[generator(seed) for seed in seeds],
        shared_init_noise=shared_init_noise,
    )


def test_a_row_depends_on_its_seed_alone():
    both = run([3, 8])
    assert torch.equal(run([3]), both[:1])
    assert torch.equal(run([8]), both[1:])
    assert not torch.equal(both[0], both[1])
    torch.manual_seed(5)
    assert torch.equal(run([3, 8]), both)


def test_the_global_generators_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run([1])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("shared", [True, False])
def test_frames_start_alike_only_when_asked(shared: bool):
    starts: list[torch.Tensor] = []

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        starts.append(latents)
        return latents

    sample_latents(
        predict,
        solver=Solver(),
        steps=2,
        shape=(3, 4, 2, 2),
        generators=[generator(0)],
        shared_init_noise=shared,
    )
    assert torch.equal(starts[0][:, 0], starts[0][:, 2]) == shared
    assert not torch.equal(starts[1][:, 0], starts[1][:, 2])


def test_the_deterministic_solver_draws_only_the_start():
    source = generator(4)
    sample_latents(
        shrink,
        solver=Solver(algorithm_type="dpmsolver++"),
        steps=3,
        shape=(2, 4, 3, 5),
        generators=[source],
    )
    reference = generator(4)
    reference.standard_normal((1, 4, 3, 5), dtype=np.float32)
    assert source.standard_normal() == reference.standard_normal()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_latents_stay_float32_under_a_bfloat16_network(prediction_type: str):
    seen: set[torch.dtype] = set()

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.add(latents.dtype)
        return (0.1 * latents).bfloat16()

    latents = sample_latents(
        predict,
        solver=Solver(prediction_type=prediction_type),
        steps=2,
        shape=(1, 4, 2, 2),
        generators=[generator(0)],
    )
    assert seen == {torch.float32}
    assert latents.dtype == torch.float32
