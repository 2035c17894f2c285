"""The noise that latents are trained with, all from the samples' draws.

Multi-resolution noise is Gaussian noise of several resolutions over each other. Its coarse parts
reach the wide structure of a picture, which plain noise hardly disturbs (Ke et al., "Repurposing
Diffusion-Based Image Generators for Monocular Depth Estimation", 2024).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.recipes.objective import Downscale, MarigoldObjective
from seethrough.tasks.transfer import on_device

MOST_LEVELS = 10
"""Levels of every way of downscaling that ends at a side of 1."""


def normal(
    draws: Sequence[Draw], stream: str, shape: Sequence[int], device: torch.device
) -> Tensor:
    """Standard normal numbers of each draw, (B, *shape) float32, made on the host.

    The host's generator gives the same numbers whatever the device is.
    """
    rows = [draw.numpy(stream).standard_normal(tuple(shape), dtype=np.float32) for draw in draws]
    return on_device(torch.from_numpy(np.stack(rows)), device)


def offset_noise(
    draws: Sequence[Draw], shape: Sequence[int], offset: float, device: torch.device
) -> Tensor:
    """Standard normal noise, (B, *shape) float32, plus noise of size `offset` a channel."""
    noise = normal(draws, "noise", shape, device)
    if offset:
        constant = (*shape[:-2], 1, 1)
        noise = noise + offset * normal(draws, "noise offset", constant, device)
    return noise


def depth_noise(
    draws: Sequence[Draw],
    shape: Sequence[int],
    objective: MarigoldObjective,
    timesteps: Tensor,
    count: int,
) -> Tensor:
    """Noise for depth latents (B, *shape) at each sample's one of `count` timesteps, float32.

    `shape` is (C, h, w), or (F, C, h, w) of a sample's frames: their noise is independent, at a
    common strength. Each sample is normalised on its own, so that its noise doesn't depend on
    the rest of the batch; the published 2D program normalises over the batch.
    """
    device = timesteps.device
    if objective.noise == "zeros":
        return torch.zeros(len(draws), *shape, device=device)
    if objective.noise_strength == 0:
        return normal(draws, "noise", shape, device)
    strengths = torch.full_like(timesteps, objective.noise_strength, dtype=torch.float32)
    if objective.noise_annealed:
        strengths = annealed(objective.noise_strength, timesteps, count)
    return torch.stack(
        [
            _drawn(draw, shape, strength, objective.noise_downscale)
            for draw, strength in zip(draws, strengths, strict=True)
        ]
    )


def _drawn(draw: Draw, shape: Sequence[int], strength: Tensor, downscale: Downscale) -> Tensor:
    random = draw.numpy("noise")

    def numbers(size: tuple[int, ...]) -> Tensor:
        values = torch.from_numpy(random.standard_normal(size, dtype=np.float32))
        return on_device(values, strength.device)

    frames = (1, *shape) if len(shape) == 3 else tuple(shape)
    noise = multi_res_noise(frames, strength, downscale, random.random, numbers)
    return noise.view(tuple(shape))


def multi_res_noise(
    shape: Sequence[int],
    strength: float | Tensor,
    downscale: Downscale,
    uniform: Callable[[], float],
    normal: Callable[[tuple[int, ...]], Tensor],
) -> Tensor:
    """Noise of all resolutions, with a standard deviation of 1 over all its numbers.

    Args:
        shape: (N, C, h, w) of the result.
        strength: in [0, 1]: level i weighs strength ** i; a number, or a tensor that broadcasts
            to the shape. 0 leaves the first level alone.
        downscale: how the sides of the levels follow each other.
        uniform: gives a number in [0, 1), called before each level whose size is random.
        normal: gives standard normal float32 numbers of a shape, on the device of the result.
            First those of full size are drawn, then each level's.

    The first level of `original` has the full size once more, as published: its white part has
    twice the variance of every other way's.
    """
    noise = normal(tuple(shape))
    size = (int(shape[-2]), int(shape[-1]))
    for level, smaller in enumerate(level_sizes(size, downscale, uniform)):
        coarse = normal((*shape[:-2], *smaller))
        coarse = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        noise = noise + coarse * strength**level
    return noise / noise.std()


def level_sizes(
    size: tuple[int, int], downscale: Downscale, uniform: Callable[[], float]
) -> Iterator[tuple[int, int]]:
    """Height and width of each level after the one of full size, coarser and coarser.

    The random factors of `original` and `random_step` lie in [2, 4), one a level. `original`
    divides the level before by the factor to the power of the level, the first one by 1.
    """
    height, width = size
    if downscale == "every_layer":
        for _ in range(min(size).bit_length() - 1):
            height, width = max(height // 2, 1), max(width // 2, 1)
            yield height, width
        return
    for level in range(MOST_LEVELS):
        factor = 2.0 if downscale == "power_of_two" else 2.0 * uniform() + 2.0
        divisor = factor if downscale == "random_step" else factor**level
        height, width = max(int(height / divisor), 1), max(int(width / divisor), 1)
        yield height, width
        if min(height, width) == 1:
            return


def annealed(strength: float, timesteps: Tensor, count: int) -> Tensor:
    """The strength at each of `count` timesteps: it falls to 0 with the noise. float32."""
    return strength * (timesteps.to(torch.float32) / count)
