"""Several predictions of the same depths as one, whose errors partly cancel.

Each run of the sampler has a scale and a shift of its own, one for all its frames: frames that
were aligned one by one would lose their order among each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seethrough.metrics.depth import align_least_squares

_ITERATIONS = 50
_TOLERANCE = 1e-5
_CHUNK = 2**21
"""Pixels of all runs that are in float64 at a time."""


def ensemble_depths(runs: Tensor, mask: Tensor | None = None) -> Tensor:
    """The median of runs, each brought to the others by its own scale and shift.

    All runs are fitted to their median by least squares, and that anew until it stays.

    Args:
        runs: (E, ...) float, small near: E predictions of a picture, or of all frames of one.
        mask: bool, broadcast to one run: the pixels that the fits look at; None for all.

    Returns:
        One run's shape, float32: from 0 for the nearest to 1 for the farthest pixel of the mask.
        Of an even number of runs the lower of the middle two counts, as published.

    Raises:
        ValueError: when the mask is empty.
    """
    shape = runs.shape[1:]
    mask = torch.ones(shape, dtype=torch.bool, device=runs.device) if mask is None else mask
    values = runs[:, mask.expand(shape)].double()
    if not values.numel():
        raise ValueError("no pixel to align the runs by: the mask is empty")
    least, most = values.min(dim=1).values, values.max(dim=1).values
    scales = 1 / (most - least).clamp(min=1e-6)
    shifts = -least * scales
    middle = _median(values, scales, shifts)
    for _ in range(_ITERATIONS):
        # A fit to others is flatter than they are; without its range back it would end at nothing.
        middle = _normalised(middle)
        fits = [align_least_squares(run, middle) for run in values]
        scales = torch.stack([fit.scale for fit in fits])
        shifts = torch.stack([fit.shift for fit in fits])
        previous, middle = middle, _median(values, scales, shifts)
        if (_normalised(middle) - previous).abs().max() < _TOLERANCE:
            break
    least, most = middle.min(), middle.max()
    result: list[Tensor] = []
    for values in runs.flatten(1).split(_CHUNK, dim=1):
        depth = (_median(values.double(), scales, shifts) - least) / (most - least).clamp(min=1e-6)
        result.append(depth.clamp(0, 1).float())
    return torch.cat(result).reshape(shape)


def _median(values: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
    return (values * scales[:, None] + shifts[:, None]).median(dim=0).values


def _normalised(values: Tensor) -> Tensor:
    least, most = values.min(), values.max()
    return (values - least) / (most - least).clamp(min=1e-6)
