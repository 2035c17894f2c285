"""Losses at sampled points, against the published numbers."""

import math

import pytest
import torch

from seethrough.recipes.partseg import PointSampling
from seethrough.tasks.point_loss import (
    cross_entropy,
    dice,
    point_losses,
    sample_at,
    sample_points,
)
from tests.data.parity.rule import normal, read_vector
from tests.tasks.small import draw

FEW = PointSampling(points=1024)


def test_values_lie_at_the_centres_of_pixels() -> None:
    plane = torch.arange(16.0).view(1, 1, 4, 4)
    points = torch.tensor([[(0.125, 0.125), (0.5, 0.5), (0, 0), (0.25, 0.5), (1, 1)]])
    assert sample_at(plane, points)[0].tolist() == pytest.approx([0, 7.5, 0, 6.5, 3.75])


def test_published_losses() -> None:
    logits, targets = torch.tensor([[0.0, 2, -2, 4]]), torch.tensor([[0.0, 1, 0, 1]])
    assert float(dice(logits, targets)) == pytest.approx(0.1379771, abs=1e-6)
    assert float(cross_entropy(logits, targets)) == pytest.approx(0.2412883, abs=1e-6)
    spec, expected = read_vector("mask_losses_a")
    shape = spec["shape"]
    logits = 2 * normal("input:mask_losses_a:logits", shape)
    targets = (normal("input:mask_losses_a:target", shape) > 0.3).float()
    count = spec["num_masks"]
    assert float(dice(logits, targets).sum() / count) == pytest.approx(float(expected["dice"]))
    assert float(cross_entropy(logits, targets).sum() / count) == pytest.approx(
        float(expected["sigmoid_ce"])
    )


def test_half_of_the_picture_and_no_idea() -> None:
    masks = torch.zeros(1, 3, 64, 64)
    masks[..., 32:] = 1
    bce, overlap = point_losses(torch.zeros(1, 3, 16, 16), masks, [draw(0)], FEW)
    assert bce.shape == (1, 3) and bce[0].tolist() == pytest.approx([math.log(2)] * 3)
    assert overlap[0].tolist() == pytest.approx([0.5] * 3, abs=0.03)


def test_rightly_nothing_costs_nothing() -> None:
    logits, masks = torch.full((1, 2, 16, 16), -20.0), torch.zeros(1, 2, 64, 64)
    bce, overlap = point_losses(logits, masks, [draw(0)], FEW)
    # Where points lie near the rim, logits fade to 0 as published.
    inner = sample_at(logits[0, :1, None], torch.full((1, 1, 2), 0.5))
    assert float(cross_entropy(inner, torch.zeros(1, 1))) < 1e-5
    assert float(overlap.max()) < 0.5 and float(bce.max()) < 0.1


def test_points_are_where_the_prediction_is_unsure() -> None:
    """Three quarters of them on the edge between left and right; and they follow from the draw."""
    logits = torch.linspace(-8, 8, 33).expand(1, 1, 33, 33).repeat(2, 1, 1, 1)
    draws = [draw(0), draw(1)]
    points = sample_points(logits, draws, FEW)
    assert points.shape == (2, 1024, 2) and 0 <= float(points.min()) <= float(points.max()) <= 1
    near = (points[..., 0] - 0.5).abs() < 0.14
    assert float(near.float().mean()) > 0.75
    assert torch.equal(points, sample_points(logits, draws, FEW))
    # Whatever else is in the batch.
    assert torch.equal(points[1:], sample_points(logits[1:], draws[1:], FEW))
    assert not torch.equal(points[0], points[1])
