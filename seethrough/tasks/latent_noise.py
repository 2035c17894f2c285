"""Noise of a diffusion on latents that only decoders learn from."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.recipes.perceptual_vae import LatentNoise
from seethrough.tasks.noise import normal
from seethrough.tasks.transfer import on_device

SDXL_BETAS = (0.00085, 0.012)
"""First and last of the 1000 that SDXL's diffusion was trained with; their roots rise evenly."""


class NoisyLatents:
    """What becomes of each draw's latents."""

    def __init__(self, section: LatentNoise, scaling_factor: float) -> None:
        """`scaling_factor` is what a diffusion model's latents are multiplied with."""
        self.section = section
        self.scaling_factor = scaling_factor
        start, end = SDXL_BETAS
        scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule="scaled_linear",
            beta_start=start,
            beta_end=end,
        )
        self.kept = scheduler.alphas_cumprod.sqrt().tolist()
        """Share of clean latents that is left at each step."""

    def step(self, draw: Draw) -> int:
        """The step of a draw; 0 has no noise."""
        random = draw.numpy("latent noise")
        noisy = random.random() < self.section.probability
        return int(random.integers(1, self.section.below_step)) if noisy else 0

    def change(
        self, draws: Sequence[Draw], shape: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """By what unscaled latents are multiplied, (N, 1, 1, 1), and what is added to them,
        (N, *shape), both float32; `shape` is (C, h, w)."""
        steps = [self.step(draw) for draw in draws]
        kept = np.array([self.kept[step] if step else 1.0 for step in steps], np.float32)
        kept = kept[:, None, None, None]
        added = np.sqrt(1 - kept**2) / self.scaling_factor
        noise = normal(draws, "latent noise values", shape, device)
        return (
            on_device(torch.from_numpy(kept), device),
            on_device(torch.from_numpy(added), device) * noise,
        )
