"""Which of two overlapping layers is in front: the share of pairs that a prediction orders right.

Most pairs of tags lie the same way round on all characters, and a fixed order of tags has them
right without looking. What depth is for shows on the pairs whose order varies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from seethrough.data.layout import Sample
from seethrough.data.tags import HEAD
from seethrough.inference.composite import DRAWING_ORDER

Pair = tuple[str, str]
"""Two tags, in the order of the alphabet."""

LEAST_OVERLAP = 16
"""Pixels that two layers share before they count as overlapping: fewer are specks of a rim."""

LEAST_ALPHA = 127
"""A layer covers a pixel where its alpha (0 to 255) is above this."""


def pair_orders(sample: Sample) -> dict[Pair, bool]:
    """The true order of a sample's overlapping layers: whether a pair's first is in front.

    A layer's stored depth says where it is drawn. On the pixels that both layers of a pair cover,
    the one that is nearer on more of them is in front; a pair that is even has no order and is
    left out. So is `head`, which repeats its parts.
    """
    levels = {tag: _levels(sample, tag) for tag in sorted(sample.boxes) if tag != HEAD}
    orders: dict[Pair, bool] = {}
    for first, second in combinations(levels, 2):
        boxes = np.array([sample.boxes[first], sample.boxes[second]])
        left, top = boxes[:, :2].max(axis=0)
        right, bottom = boxes[:, 2:].min(axis=0)
        if left >= right or top >= bottom:
            continue
        ours, theirs = (
            levels[tag][top - y : bottom - y, left - x : right - x]
            for tag, (x, y) in zip((first, second), boxes[:, :2], strict=True)
        )
        both = (ours > 0) & (theirs > 0)
        lead = int((ours > theirs)[both].sum()) - int((ours < theirs)[both].sum())
        if both.sum() >= LEAST_OVERLAP and lead:
            orders[first, second] = lead > 0
    return orders


def _levels(sample: Sample, tag: str) -> np.ndarray:
    """A layer's draw order, larger nearer, and 0 where the layer does not cover."""
    return np.where(sample.layer(tag)[..., 3] > LEAST_ALPHA, sample.depth(tag), 0)


def varying_pairs(known: Iterable[Mapping[Pair, bool]]) -> frozenset[Pair]:
    """The pairs that lie both ways round among known characters, each given by `pair_orders`."""
    seen = Counter(order for orders in known for order in orders.items())
    return frozenset(pair for pair, in_front in seen if in_front and seen[pair, False])


def tag_depths(order: Sequence[str] = DRAWING_ORDER) -> dict[str, float]:
    """A fixed order of tags, back to front, as the depths of layers: the baseline."""
    return {tag: float(-place) for place, tag in enumerate(order)}


@attrs.frozen
class OrderScores:
    """Shares of pairs that are ordered right; None without such pairs."""

    all_pairs: float | None
    """Over all overlapping pairs of all characters."""
    varying_pairs: float | None
    """Over those whose order varies among the known characters."""
    pairs: int
    """How many pairs overlap."""
    varying: int
    """How many of them vary."""


class DepthOrder(Metric):
    """Accumulates characters; each of their overlapping pairs counts once."""

    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self, varying: frozenset[Pair], **options: Any) -> None:
        """`varying` are the pairs of `varying_pairs`."""
        super().__init__(**options)
        self.varying = varying
        # Of all pairs, and of the varying ones.
        self.add_state("right", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, orders: Mapping[Pair, bool], depths: Mapping[str, float]) -> None:
        """Add one character.

        Args:
            orders: the true order of its overlapping pairs.
            depths: the predicted depth of its layers, small near, as `Part.depth_median`. Equal
                ones are half right. A pair with a layer that was not predicted is wrong: a
                prediction must not gain by leaving out layers.
        """
        for (first, second), in_front in orders.items():
            found = 0.0
            if first in depths and second in depths:
                nearer, farther = (first, second) if in_front else (second, first)
                found = float(depths[nearer] < depths[farther])
                found += 0.5 * (depths[nearer] == depths[farther])
            counts = self.count.new_tensor([1.0, float((first, second) in self.varying)])
            self.right += counts * found
            self.count += counts

    def compute(self) -> OrderScores:
        """The shares over what was added."""
        shares = [
            right / count if count else None
            for right, count in zip(self.right.tolist(), self.count.tolist(), strict=True)
        ]
        pairs, varying = self.count.int().tolist()
        return OrderScores(shares[0], shares[1], pairs, varying)
