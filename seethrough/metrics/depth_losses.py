"""Losses of depth maps: predicted and true (B, 1, H, W), mask (B, 1, H, W) bool for valid pixels.

All return a scalar, 0 where nothing is valid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def affine_invariant_loss(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of both, each less its median and over its mean deviation from it.

    Per sample (MiDaS, Ranftl et al., 2020). Medians and deviations get no gradient.
    """
    losses: list[Tensor] = []
    for p, g, valid in zip(predicted, true, mask, strict=True):
        difference = _normalised(p[valid]) - _normalised(g[valid])
        losses.append(difference.abs().sum() / valid.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _normalised(values: Tensor) -> Tensor:
    if not values.numel():
        return values
    with torch.no_grad():
        median = values.median()
        deviation = (values - median).abs().mean()
    return (values - median) / (deviation + 1e-6)


def gradient_matching_loss(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of the gradients' squared lengths, and of their angles.

    A gradient is of two neighbours across and two down, at one scale; it counts where its three
    pixels are valid.
    """
    valid = mask[..., 1:, 1:] & mask[..., 1:, :-1] & mask[..., :-1, 1:]
    length_p, angle_p = _gradients(predicted)
    length_g, angle_g = _gradients(true)
    lengths, angles = (length_p - length_g).abs(), (angle_p - angle_g).abs()
    return (lengths[valid].sum() + angles[valid].sum()) / valid.sum().clamp(min=1)


def _gradients(depth: Tensor) -> tuple[Tensor, Tensor]:
    across = depth[..., 1:, 1:] - depth[..., 1:, :-1]
    down = depth[..., 1:, 1:] - depth[..., :-1, 1:]
    return across.square() + down.square(), torch.atan(down / (across + 1e-10))


def scale_invariant_log_loss(
    predicted: Tensor, true: Tensor, mask: Tensor, variance_focus: float = 0.5
) -> Tensor:
    """Root of the mean square of ln(true / predicted), less a share of its squared mean.

    Eigen et al., 2014. Both depths are positive where valid; `variance_focus` is that share,
    and 1 makes the loss blind to scale.
    """
    if not mask.any():
        return predicted.sum() * 0
    difference = true[mask].log() - predicted[mask].log()
    loss = difference.square().mean() - variance_focus * difference.mean().square()
    # The root's gradient at 0 is infinite, and rounding may end below 0.
    return loss.clamp(min=1e-12).sqrt()


def scale_and_shift_invariant_loss(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error after each sample's own best scale and shift, of least squared error.

    The gradient goes through both (MiDaS, Ranftl et al., 2020). A constant prediction has no best
    scale; it becomes 0.
    """
    scale, shift = _scale_and_shift(predicted, true, mask.to(predicted.dtype))
    aligned = predicted * scale + shift
    return (aligned - true)[mask].abs().sum() / mask.sum().clamp(min=1)


def _scale_and_shift(predicted: Tensor, true: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Solve the normal equations of each sample; (B, 1, 1, 1) each."""

    def total(values: Tensor) -> Tensor:
        return (weight * values).sum(dim=(1, 2, 3), keepdim=True)

    squares, sums, count = total(predicted.square()), total(predicted), total(weight)
    products, targets = total(predicted * true), total(true)
    determinant = squares * count - sums.square()
    solvable = determinant > 0
    safe = torch.where(solvable, determinant, 1)
    scale = (count * products - sums * targets) / safe
    shift = (squares * targets - sums * products) / safe
    return scale * solvable, shift * solvable
