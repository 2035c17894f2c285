"""How far two masks overlap, beside their IoU: Dice, and its published variant."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score

Image8 = npt.NDArray[np.uint8]

DICE_MEASURES = {"dice": "Dice", "published_dice_loss": "published Dice loss"}
"""What is measured, with its name for people.

- dice: twice the intersection over the sum of areas of alpha above 0.5, 1 at best.
- published_dice_loss: as the published benchmark computes it and calls it `mask_dice`; less is
  better. It lacks the factor 2, so that a perfect mask has about one half.
"""


def dice(predicted: Tensor, true: Tensor) -> float:
    """Twice the intersection over the sum of areas, of bool masks (H, W); NaN if both are empty."""
    # Of two masks, F1 is Dice.
    score = binary_f1_score(
        predicted.int(), true.int(), validate_args=False, zero_division=math.nan
    )
    return score.item()


def published_dice_loss(predicted: Tensor, true: Tensor) -> float:
    """1 - (sum(p t) + 1) / (sum(p^2 + t^2) + 1) of alpha (H, W) in [0, 1].

    0 if both are empty, and between about 0.5 and 1 if not.
    """
    p, t = predicted.double(), true.double()
    return (1 - ((p * t).sum() + 1) / ((p.square() + t.square()).sum() + 1)).item()


def layer_overlap(predicted: Image8, true: Image8) -> dict[str, float]:
    """`DICE_MEASURES` of a layer, (H, W, 4) uint8 RGBA each; without Dice where the true one is
    nowhere above one half."""
    ours, theirs = (torch.from_numpy(layer[..., 3]) for layer in (predicted, true))
    scores = {"published_dice_loss": published_dice_loss(ours / 255, theirs / 255)}
    if (theirs > 127).any():
        scores["dice"] = dice(ours > 127, theirs > 127)
    return scores
