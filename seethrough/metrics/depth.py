"""How close predicted depth is to the true one, up to one scale and shift.

Depth is small where it is near and large where it is far. A prediction has no unit: it is aligned
to the truth before it is measured, once for everything that shares a scale, so all frames of a
character together. Frames aligned one by one would hide that they lie in the wrong order.

The published validation measures on [-1, 1], leaves out what is below 0.01, so the nearer half of
all pixels, aligns and averages frames one by one, and counts absent frames and the background,
which an alignment fits for nothing. Here depth in [-1, 1] is measured on [1, 2], where a ratio of
depths means something, and over all pixels of a mask and no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.regression import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
)

DEPTH_MEASURES = {
    "abs_rel": "relative error",
    "sq_rel": "squared relative error",
    "rmse": "RMSE",
    "rmse_log": "RMSE of ln depth",
    "log_10": "error of log10 depth",
    "silog": "scale-invariant log RMSE x 100",
    "i_rmse": "RMSE of 1 / depth",
    "a1": "share within 1.25 times",
    "a2": "share within 1.25^2 times",
    "a3": "share within 1.25^3 times",
}
"""What is measured, with its name for people. Of a1, a2 and a3 more is better."""

LEAST_DEPTH = 0.01
"""What a prediction is raised to before it is measured: an aligned one may fall to 0 and below."""

_CONSTANT = 1e-26
"""Variance as a share of the mean square below which float64 can't tell values apart."""


@attrs.frozen
class Alignment:
    """The scale and shift that bring a prediction to the truth: scalar float64 tensors."""

    scale: Tensor
    shift: Tensor

    def __call__(self, predicted: Tensor) -> Tensor:
        """The aligned prediction, of its shape and dtype."""
        return (predicted.double() * self.scale + self.shift).to(predicted.dtype)


Align = Callable[..., Alignment]


def align_least_squares(predicted: Tensor, true: Tensor, mask: Tensor | None = None) -> Alignment:
    """The scale and shift of least squared error, in closed form.

    Of the many that fit a constant prediction it is the one of least norm, as NumPy's `lstsq`
    gives.

    Args:
        predicted: any shape, dtype and device.
        true: the same shape.
        mask: bool, broadcast to that shape: the pixels that count; None for all.

    Raises:
        ValueError: when no pixel counts.
    """
    p, g = _selected(predicted, true, mask)
    mean, target = p.mean(), g.mean()
    centred = p - mean
    variance = centred.square().mean()
    square = mean.square()
    if variance <= _CONSTANT * square:
        least = target / (1 + square)
        return Alignment(mean * least, least)
    scale = (centred * (g - target)).mean() / variance
    return Alignment(scale, target - scale * mean)


def align_median(predicted: Tensor, true: Tensor, mask: Tensor | None = None) -> Alignment:
    """The scale and shift that give the prediction the truth's median and spread.

    The spread is the mean absolute deviation from the median (MiDaS, Ranftl et al., 2020), so
    that a level on more than half of all pixels doesn't make it 0. A constant prediction is
    shifted alone. The scale is never negative: a prediction that is inside out stays so.
    Arguments and errors as of `align_least_squares`.
    """
    p, g = _selected(predicted, true, mask)
    middle, target = p.median(), g.median()
    spread, wanted = (p - middle).abs().mean(), (g - target).abs().mean()
    scale = wanted / spread if spread > 0 else torch.ones_like(spread)
    return Alignment(scale, target - scale * middle)


ALIGNMENTS: dict[str, Align] = {"least_squares": align_least_squares, "median": align_median}
"""The alignments by name."""


def depth_errors(predicted: Tensor, true: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """All `DEPTH_MEASURES` over all pixels that count, as they are: nothing is aligned.

    Args:
        predicted: any shape, in the truth's scale; below `LEAST_DEPTH` it is raised to that.
        true: the same shape, positive wherever it counts.
        mask: bool, broadcast to that shape: the pixels that count; None for all.

    Raises:
        ValueError: when no pixel counts, or the true depth of one is not positive.
    """
    p, g = _selected(predicted, true, mask)
    if (least := g.min().item()) <= 0:
        raise ValueError(f"ratios of depths need positive ones, the least true depth is {least}")
    p = p.clamp(min=LEAST_DEPTH)
    log_p, log_g = p.log(), g.log()
    ratio = torch.maximum(p / g, g / p)
    errors = {
        "abs_rel": mean_absolute_percentage_error(p, g),
        "sq_rel": ((p - g).square() / g).mean(),
        "rmse": mean_squared_error(p, g, squared=False),
        "rmse_log": mean_squared_error(log_p, log_g, squared=False),
        "log_10": mean_absolute_error(log_p, log_g) / math.log(10),
        "silog": 100 * (log_p - log_g).std(correction=0),
        "i_rmse": mean_squared_error(1 / p, 1 / g, squared=False),
    }
    errors |= {f"a{n}": (ratio < 1.25**n).double().mean() for n in (1, 2, 3)}
    return {measure: errors[measure].item() for measure in DEPTH_MEASURES}


class DepthMetrics(Metric):
    """`DEPTH_MEASURES` of predictions up to scale and shift, averaged over characters."""

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(
        self, alignment: Literal["least_squares", "median"] = "least_squares", **options: Any
    ) -> None:
        """`alignment` is one of `ALIGNMENTS`."""
        super().__init__(**options)
        self.align = ALIGNMENTS[alignment]
        zeros = torch.zeros(len(DEPTH_MEASURES), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor, mask: Tensor) -> None:
        """Add one character: its page, or those of its frames that share a scale.

        Args:
            predicted: any shape, in any scale.
            true: the same shape, in [-1, 1], near -1.
            mask: bool, broadcast to that shape: the pixels that count. Without any the character
                doesn't count.
        """
        if not mask.any():
            return
        positive = (true.double() + 3) / 2
        aligned = self.align(predicted, positive, mask)(predicted.double())
        errors = depth_errors(aligned, positive, mask)
        self.sums += self.sums.new_tensor(list(errors.values()))
        self.count += 1

    def compute(self) -> dict[str, float]:
        """The mean of each measure over the characters that count; NaN without any."""
        means = (self.sums / self.count).tolist()
        return dict(zip(DEPTH_MEASURES, means, strict=True))


def _selected(predicted: Tensor, true: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """What counts of both, flat, in float64."""
    if predicted.shape != true.shape:
        raise ValueError(f"shapes differ: {tuple(predicted.shape)} and {tuple(true.shape)}")
    predicted, true = predicted.detach().double(), true.detach().double()
    if mask is not None:
        mask = mask.to(true.device).expand_as(true)
        predicted, true = predicted[mask], true[mask]
    if not true.numel():
        raise ValueError("no pixel counts: the mask is empty")
    return predicted.flatten(), true.flatten()
