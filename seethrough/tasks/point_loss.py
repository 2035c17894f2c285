"""Losses of masks at sampled points: many where the prediction is unsure, the rest anywhere.

As in Mask2Former (Cheng et al., 2022) and SAM-HQ. Where a mask is not to be relied on, it has no
part in anything: the published program added a constant for it.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.recipes.partseg import PointSampling
from seethrough.tasks.transfer import on_device


def point_losses(
    logits: Tensor, masks: Tensor, draws: Sequence[Draw], sampling: PointSampling
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice loss of each mask, both (B, C) float32.

    Args:
        logits: (B, C, h, w).
        masks: (B, C, H, W), 0 or 1, of any size.
        draws: of the B samples; the points follow from them alone.
        sampling: how many points, and where.
    """
    planes, targets = logits.float().flatten(0, 1)[:, None], masks.flatten(0, 1)[:, None].float()
    points = sample_points(planes, draws, sampling)
    found, true = sample_at(planes, points), sample_at(targets, points)
    shape = logits.shape[:2]
    return cross_entropy(found, true).view(shape), dice(found, true).view(shape)


def sample_points(planes: Tensor, draws: Sequence[Draw], sampling: PointSampling) -> Tensor:
    """Points for (B C, 1, h, w) logits: (B C, n, 2), x and y in [0, 1]."""
    classes = len(planes) // len(draws)
    unsure = int(sampling.unsure_share * sampling.points)
    tried = int(sampling.oversampling * sampling.points)
    candidates = _uniform(draws, "points to choose from", classes, tried, planes.device)
    others = _uniform(draws, "points", classes, sampling.points - unsure, planes.device)
    with torch.no_grad():
        sureness = sample_at(planes, candidates).abs()
        chosen = sureness.topk(unsure, dim=1, largest=False, sorted=False).indices
    picked = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([picked, others], dim=1)


def sample_at(planes: Tensor, points: Tensor) -> Tensor:
    """Values of (N, 1, h, w) at (N, n, 2) in [0, 1], bilinear between centres of pixels: (N, n).

    Beyond the outer centres they fall towards 0.
    """
    return F.grid_sample(planes, 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, a mean over points: (N, n) -> (N,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus twice the overlap over the sum, with one point added to both: (N, n) -> (N,)."""
    found = logits.sigmoid()
    return 1 - (2 * (found * targets).sum(1) + 1) / (found.sum(1) + targets.sum(1) + 1)


def _uniform(
    draws: Sequence[Draw], stream: str, classes: int, count: int, device: torch.device
) -> Tensor:
    """Points (B C, count, 2) in [0, 1) of each draw, made on the host."""
    rows = [draw.numpy(stream).random((classes, count, 2), np.float32) for draw in draws]
    return on_device(torch.from_numpy(np.concatenate(rows)), device)
