"""How alike two pictures are, a value for each pair."""

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

PICTURE_MEASURES = {"picture_psnr": "picture PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}
"""What is measured, with its name for people; of all of them more is better.

- picture_psnr: in dB, at most that of rounding to 8 bits.
- ssim: Wang et al. (2004), Gaussian of 11 px and deviation 1.5.
- ms_ssim: Wang et al. (2003), five scales with their weights. Means of contrast and structure
  below 0 count as 0. The published program has the last scale's weight four times.
"""

LEAST_SIDE = 176
"""Pixels a side that the fifth scale needs."""

_LEAST_MSE = 1 / (12 * 255**2)
"""Of rounding to 8 bits, 58.9 dB."""


def picture_scores(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """All `PICTURE_MEASURES`, (B,) float32 each.

    Args:
        predicted: (B, 3, S, S) RGB in [0, 1], S at least `LEAST_SIDE`.
        true: likewise.

    Raises:
        ValueError: when the shapes differ or a side is too short.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"shapes differ: {tuple(predicted.shape)} and {tuple(true.shape)}")
    if min(true.shape[-2:]) < LEAST_SIDE:
        raise ValueError(f"pictures of {tuple(true.shape[-2:])}; the sides need {LEAST_SIDE} px")
    predicted, true = predicted.float(), true.float()
    psnr = peak_signal_noise_ratio(predicted, true, data_range=1.0, reduction="none", dim=(1, 2, 3))
    ceiling = -10 * torch.log10(torch.tensor(_LEAST_MSE))
    ssim = structural_similarity_index_measure(predicted, true, data_range=1.0, reduction="none")
    ms_ssim = multiscale_structural_similarity_index_measure(
        predicted, true, data_range=1.0, reduction="none", normalize="relu"
    )
    assert isinstance(ssim, Tensor)
    # Equal pictures have no finite PSNR.
    values = (psnr.clamp(max=ceiling.item()), ssim, ms_ssim)
    return dict(zip(PICTURE_MEASURES, (value.reshape(-1) for value in values), strict=True))
