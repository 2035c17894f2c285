"""The diffusion objective: timesteps, noise, targets and weights, all from the samples' draws."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.recipes.objective import TimestepWeights
from seethrough.tasks.task import Parts
from seethrough.tasks.transfer import on_device

QUARTERS = 4
"""Ranges of equal length that the timesteps are divided into for the log."""


class Diffusion:
    """Noising and loss weights for latents of shape (B, ..., C, h, w).

    The noise schedule is that of the base's scheduler: its betas, and whether they are rescaled
    so that nothing of the latents is left at the last timestep (Lin et al., 2024). What the
    network predicts is the scheduler's too unless it is given.
    """

    def __init__(
        self,
        objective: TimestepWeights,
        scheduler_folder: Path,
        prediction_type: str | None = None,
    ) -> None:
        self.objective = objective
        config: Any = DDPMScheduler.load_config(scheduler_folder)
        predicts: Any = prediction_type or config.get("prediction_type", "epsilon")
        self.prediction_type: str = predicts
        self.scheduler = DDPMScheduler(
            num_train_timesteps=config["num_train_timesteps"],
            beta_schedule=config["beta_schedule"],
            beta_start=config["beta_start"],
            beta_end=config["beta_end"],
            rescale_betas_zero_snr=bool(config.get("rescale_betas_zero_snr", False)),
            prediction_type=predicts,
        )
        self.count = int(self.scheduler.config["num_train_timesteps"])
        self.cumulative = np.cumsum(timestep_weights(objective, self.count))

    def timesteps(self, draws: Sequence[Draw], device: torch.device) -> Tensor:
        """One timestep a sample, (B,) int64."""
        places = [draw.numpy("timestep").random() for draw in draws]
        steps = np.searchsorted(self.cumulative / self.cumulative[-1], places, side="right")
        return on_device(torch.from_numpy(steps.astype(np.int64)), device)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy latents at each sample's timestep, float32.

        diffusers takes the schedule in the type of the latents: bfloat16 would round it.
        """
        return self.scheduler.add_noise(latents.float(), noise, timesteps)  # pyright: ignore[reportArgumentType]

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should predict, float32."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return latents
        return self.scheduler.get_velocity(latents.float(), noise, timesteps)  # pyright: ignore[reportArgumentType]

    def squared_errors(
        self, prediction: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """Squared error of every number of the prediction, not weighted, float32."""
        target = self.target(latents, noise, timesteps)
        return F.mse_loss(prediction.float(), target.float(), reduction="none")

    def squared_error(
        self, prediction: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """Weighted mean squared error over the last three axes, float32, (B, ...)."""
        errors = self.squared_errors(prediction, latents, noise, timesteps).mean((-3, -2, -1))
        return errors * self.weights(timesteps).view(-1, *(1 for _ in errors.shape[1:]))

    def quarters(self, errors: Tensor, counts: Tensor, timesteps: Tensor) -> Parts:
        """The loss by quarter of the timesteps, named t000-249 and so on.

        `errors` (B,) are the weighted terms of each sample, `counts` (B,) how many it has.
        """
        starts = [-(-quarter * self.count // QUARTERS) for quarter in range(QUARTERS + 1)]
        digits = len(str(self.count - 1))
        names = [
            f"t{start:0{digits}}-{end - 1:0{digits}}" for start, end in itertools.pairwise(starts)
        ]
        # Sums without indices that the host would have to wait for.
        quarter = timesteps * QUARTERS // self.count
        inside = quarter == torch.arange(QUARTERS, device=timesteps.device)[:, None]
        sums = (errors.detach() * inside).sum(1)
        return Parts(tuple(names), sums.float(), (counts * inside).sum(1).float())

    def even_timesteps(self, count: int) -> list[int]:
        """`count` timesteps in rising order, spread evenly over their range."""
        return [(2 * place + 1) * self.count // (2 * count) for place in range(count)]

    def weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weight of each sample, (B,) float32."""
        if self.objective.snr_gamma is None:
            return torch.ones_like(timesteps, dtype=torch.float32)
        snr = compute_snr(self.scheduler, timesteps)
        return min_snr_weights(snr, self.objective.snr_gamma, self.prediction_type)


def min_snr_weights(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """min(SNR, gamma) in units of the prediction's own error (Hang et al., 2023).

    Errors of the clean latents weigh min(SNR, gamma); an epsilon error is SNR times, a velocity
    error (SNR + 1) times the one of the latents. An SNR of 0 has a weight too.
    """
    clipped = snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    if prediction_type == "v_prediction":
        return clipped / (snr + 1)
    return clipped


def timestep_weights(objective: TimestepWeights, count: int) -> np.ndarray:
    """Relative probability of each of `count` timesteps, (count,) float64."""
    weights = np.ones(count)
    favoured = int(objective.timestep_bias_portion * count)
    if objective.timestep_bias == "later":
        weights[count - favoured :] *= objective.timestep_bias_multiplier
    elif objective.timestep_bias == "earlier":
        weights[:favoured] *= objective.timestep_bias_multiplier
    elif objective.timestep_bias == "range":
        begin, end = objective.timestep_bias_range
        weights[begin:end] *= objective.timestep_bias_multiplier
    return weights


def with_probability(draws: Sequence[Draw], stream: str, probability: float) -> list[bool]:
    """One yes or no for each draw."""
    return [bool(draw.numpy(stream).random() < probability) for draw in draws]
