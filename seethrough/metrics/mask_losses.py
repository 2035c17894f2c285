"""Losses of masks on decoded pixels, a value a picture, all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

SLOPE = 4.0
"""Of the logistic that makes a probability of a decoded value: 0.98 at 1, 0.02 at -1. A clamp to
[0, 1] would have no gradient where a prediction is as wrong as can be."""


def bce(decoded: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, a mean over pixels, (B,).

    `decoded` (B, H, W) are a decoder's values, 1 for transparent and -1 for not; `masks`
    (B, H, W) are 1 and 0.
    """
    return _cross_entropy(decoded, masks).flatten(1).mean(1)


def dice(decoded: Tensor, masks: Tensor) -> Tensor:
    """One minus twice the overlap over the sum of areas, (B,), likewise; near 0 if both are empty.

    One pixel is added to both, so that a mask without anything transparent has a loss.
    """
    found = torch.sigmoid(SLOPE * decoded.float()).flatten(1)
    true = masks.float().flatten(1)
    return 1 - (2 * (found * true).sum(1) + 1) / (found.sum(1) + true.sum(1) + 1)


def boundary(decoded: Tensor, masks: Tensor, width: int) -> Tensor:
    """Binary cross-entropy over the pixels near a mask's edge, (B,); 0 of a mask without any."""
    near = near_edges(masks, width)
    summed = (_cross_entropy(decoded, masks) * near).flatten(1).sum(1)
    return summed / near.flatten(1).sum(1).clamp_min(1.0)


def near_edges(masks: Tensor, width: int) -> Tensor:
    """(B, H, W), 1 where a square that reaches `width` pixels to each side has both values."""
    planes = masks.float()[:, None]
    most, most_negative = (
        F.max_pool2d(signed, 2 * width + 1, stride=1, padding=width) for signed in (planes, -planes)
    )
    return (most + most_negative)[:, 0]


def _cross_entropy(decoded: Tensor, masks: Tensor) -> Tensor:
    logits = SLOPE * decoded.float()
    return F.binary_cross_entropy_with_logits(logits, masks.float(), reduction="none")
