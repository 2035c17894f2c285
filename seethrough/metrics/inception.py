"""How alike two sets of pictures are: FID and KID, on the features of Inception v3.

The network and its weights are torch-fidelity's, converted from those that both were published
with: numbers of other weights do not compare. Neither do FIDs of sets of another size: it is
biased, the more the smaller they are. KID is not.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)
from torchmetrics.image.kid import poly_mmd

from seethrough.errors import InputError
from seethrough.models.perceptual_networks import weights_file
from seethrough.models.torch_files import read_torch_file

SET_MEASURES = {"fid": "FID", "kid": "KID"}
"""What is measured, with its name for people; of both less is better."""

WIDTH = 2048
"""Features of a picture: those before the classifier, which both are published on."""

SUBSET = 1000
"""KID of more pictures is the mean over subsets of so many, as published."""

SUBSETS = 100


def load_inception(weights: Path | None) -> nn.Module:
    """The network on the CPU: (B, 3, H, W) uint8 RGB of any size -> ((B, 2048),).

    `weights` is the file; None takes that of torch's cache.

    Raises:
        InputError: when there is no such file, or it is of another network.
    """
    file = weights_file(weights, URL_INCEPTION_V3, "FID and KID")
    # torch-fidelity would unpickle the file as it is; what it is given holds plain tensors alone.
    plain = io.BytesIO()
    torch.save(read_torch_file(file), plain)
    plain.seek(0)
    try:
        return FeatureExtractorInceptionV3("inception", [str(WIDTH)], plain)
    except RuntimeError as error:
        raise InputError(
            f"{file}: not the weights of torch-fidelity's Inception v3 ({error}): get"
            f" {URL_INCEPTION_V3}"
        ) from error


def inception_features(network: nn.Module, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> (B, 2048) float32."""
    return network((pictures * 255).round().to(torch.uint8))[0]


def frechet_distance(predicted: Tensor, true: Tensor) -> float:
    """FID of two sets of features, (N, D) and (M, D): that of normals with their moments.

    The trace of the root of the covariances' product is the sum of the singular values of a
    product of their roots, which are as small as the sets. torchmetrics takes the eigenvalues of
    the product itself, D x D, which for each tag of a benchmark would take minutes.

    Raises:
        ValueError: for a set of fewer than two.
    """
    least = min(len(predicted), len(true))
    if least < 2:
        raise ValueError(f"a set of {least} has no covariance")
    distance = torch.zeros((), dtype=torch.float64)
    roots: list[Tensor] = []
    means: list[Tensor] = []
    for features in (predicted, true):
        features = features.double()
        means.append(features.mean(0))
        centred = (features - means[-1]) / (len(features) - 1) ** 0.5
        distance += centred.square().sum()
        roots.append(torch.linalg.qr(centred, mode="r").R)
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    distance += (means[0] - means[1]).square().sum() - 2 * overlap
    return max(distance.item(), 0.0)


def kernel_distance(predicted: Tensor, true: Tensor) -> float:
    """KID of two sets of features, (N, D) and (N, D), N at least 2: unbiased, it may be below 0.

    Of more than `SUBSET` it is the mean over random subsets, always the same ones.
    """
    size = len(true)
    if size <= SUBSET:
        return poly_mmd(true.double(), predicted.double()).item()
    generator = torch.Generator().manual_seed(0)
    values: list[Tensor] = []
    for _ in range(SUBSETS):
        real, fake = (features[_choose(size, generator)].double() for features in (true, predicted))
        values.append(poly_mmd(real, fake))
    return torch.stack(values).mean().item()


def _choose(size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(size, generator=generator)[:SUBSET]
