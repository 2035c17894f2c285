"""Noise on latents: as strong as SDXL's diffusion at the step of the draw."""

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from seethrough.recipes.perceptual_vae import LatentNoise
from seethrough.tasks.latent_noise import NoisyLatents
from seethrough.tasks.noise import normal
from tests.tasks.small import draw

SCALE = 0.13025
SHAPE = (4, 3, 5)
CPU = torch.device("cpu")


def test_it_is_the_scheduler_s_noise_on_scaled_latents() -> None:
    noise = NoisyLatents(LatentNoise(probability=1.0, below_step=1000), SCALE)
    draws = [draw(index) for index in range(4)]
    steps = torch.tensor([noise.step(each) for each in draws])
    assert len(steps.unique()) == 4
    times, plus = noise.change(draws, SHAPE, CPU)
    latents, drawn = torch.randn(4, *SHAPE), normal(draws, "latent noise values", SHAPE, CPU)
    scheduler = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")
    wanted = scheduler.add_noise(latents * SCALE, drawn, steps) / SCALE  # type: ignore[arg-type]
    torch.testing.assert_close(latents * times + plus, wanted, rtol=1e-4, atol=1e-4)


def test_a_sample_has_it_by_chance_and_below_the_last_step() -> None:
    noise = NoisyLatents(LatentNoise(probability=0.25, below_step=4), SCALE)
    steps = [noise.step(draw(index)) for index in range(400)]
    assert set(steps) == {0, 1, 2, 3}
    assert 0.18 < sum(step > 0 for step in steps) / 400 < 0.32
    draws = [draw(index) for index in range(400) if steps[index] == 0][:2]
    times, plus = noise.change(draws, SHAPE, CPU)
    assert times.flatten().tolist() == [1, 1] and not plus.any()


def test_where_there_is_noise_there_are_steps_to_draw() -> None:
    assert list(LatentNoise().check()) == []
    for below_step in (1, 1001):
        (found,) = LatentNoise(probability=0.5, below_step=below_step).check()
        assert found == ("below_step", f"from 2 to 1000 where there is noise, found {below_step}")
