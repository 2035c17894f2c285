"""The multi-step sampler: DPM-Solver++ with all values and all randomness explicit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy latents (B, ...) and timesteps (B,) to the network's prediction (B, ...)."""


@attrs.frozen(kw_only=True)
class Solver:
    """The noise schedule a model was trained with, and how to walk it back.

    The defaults are those of SDXL's published schedule and of the published decomposition
    pipeline: stochastic DPM-Solver++ (Lu et al., 2022) of order 2. `build` gives diffusers'
    scheduler from these values alone, so no file of another repository decides the result.
    """

    prediction_type: str = "epsilon"
    num_train_timesteps: int = 1000
    beta_schedule: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    algorithm_type: str = "sde-dpmsolver++"
    solver_order: int = 2
    solver_type: str = "midpoint"
    final_sigmas_type: str = "zero"

    @property
    def is_stochastic(self) -> bool:
        """Whether a step adds fresh noise."""
        return self.algorithm_type.startswith("sde-")

    def build(self, steps: int) -> DPMSolverMultistepScheduler:
        """Make a scheduler at the start of a walk of `steps` steps."""
        scheduler = DPMSolverMultistepScheduler(**attrs.asdict(self))
        scheduler.set_timesteps(steps)
        # Without a begin index the first step would look its timestep up, which waits for the
        # device.
        scheduler.set_begin_index(0)
        return scheduler


def sample_latents(
    predict: Predict,
    *,
    solver: Solver,
    steps: int,
    shape: tuple[int, int, int, int],
    generators: Sequence[np.random.Generator],
    shared_init_noise: bool = True,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw latents from the model, one row for each generator.

    `shape` is a row's (F, C, h, w). Each row takes its numbers from its own generator alone: a
    row doesn't depend on which others share the batch. `shared_init_noise` starts all frames of
    a row from the same noise, as the published pipeline does; else each has its own. Noise added
    later is independent per frame. Returns (len(generators), F, C, h, w) float32 on `device`.
    """
    frames = shape[0]
    initial = (1, *shape[1:]) if shared_init_noise else shape
    latents = _normal(generators, initial, device).expand(-1, frames, -1, -1, -1)

    def noise(step: int) -> Tensor | None:
        del step
        return _normal(generators, shape, device) if solver.is_stochastic else None

    return solve(predict, solver.build(steps), latents, noise)


@torch.no_grad()
def solve(
    predict: Predict,
    scheduler: DPMSolverMultistepScheduler,
    latents: Tensor,
    noise: Callable[[int], Tensor | None],
) -> Tensor:
    """Walk from pure noise to clean latents.

    `latents` is (B, ...) standard normal float32, and stays float32 whatever type the network
    answers in; `noise(step)` gives what a stochastic step adds, of the same shape. The loop
    never waits for the device.
    """
    latents = latents * scheduler.init_noise_sigma
    # One copy to the device before the loop; the scheduler counts its own steps on the host.
    timesteps = scheduler.timesteps.to(latents.device)
    for step in range(len(timesteps)):
        prediction = predict(latents, timesteps[step].expand(len(latents)))
        latents = scheduler.step(
            prediction.float(),
            timesteps[step],
            latents,
            variance_noise=noise(step),
            return_dict=False,
        )[0]
    return latents


def _normal(
    generators: Sequence[np.random.Generator],
    shape: tuple[int, ...],
    device: torch.device | str,
) -> Tensor:
    rows = [generator.standard_normal(shape, dtype=np.float32) for generator in generators]
    noise = torch.from_numpy(np.stack(rows))
    if torch.device(device).type == "cuda":
        noise = noise.pin_memory()
    return noise.to(device, non_blocking=True)
