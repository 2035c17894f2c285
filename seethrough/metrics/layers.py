"""How close predicted layers are to the true ones, per tag and over all.

Images are straight RGBA, (H, W, 4) uint8, all of one size. A layer exists where its alpha is
above one half.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_jaccard_index
from torchmetrics.functional.image import peak_signal_noise_ratio

from seethrough.data.crops import fit_layer, fit_page
from seethrough.data.layout import Box, Sample
from seethrough.data.tags import HEAD
from seethrough.inference.composite import flatten

Image8 = npt.NDArray[np.uint8]
"""(H, W, 4) straight RGBA."""
Mask = npt.NDArray[np.bool_]

MEASURES = {
    "iou": "alpha IoU",
    "mae": "alpha MAE",
    "psnr": "colour PSNR",
    "hidden_recall": "hidden recall",
    "false_layers": "false layers",
}
"""What is measured per layer, with its name for people.

- iou: intersection over union of alpha above 0.5; true layers only.
- mae: mean absolute difference of alpha in [0, 1] over the canvas; true layers only.
- psnr: of straight colour where the true alpha is above 0.5, in dB; true layers only.
- hidden_recall: share of a true layer's pixels, those that others hide in the page, where the
  prediction has the layer too; only layers with such pixels.
- false_layers: share of absent tags for which a layer was predicted.
"""

FALSE_AREA = 0.001
"""Share of the canvas with alpha above 0.5 above which an absent tag's layer counts as one."""

_PSNR_CEILING = 10 * math.log10(12 * 255**2)
"""The PSNR of rounding to 8 bits, 58.9 dB; equal colours would have no finite one."""


@attrs.frozen
class Truth:
    """What is known of a test page, on its canvas of R x R pixels."""

    page: Image8
    """The page, straight RGBA: colour holds the background, alpha is the character's."""
    layers: dict[str, Image8]
    """The layers that the character has, by tag."""
    visible: dict[str, Mask]
    """Where each of them is seen in the page, (R, R)."""


def load_truth(sample: Sample, tags: Sequence[str], resolution: int) -> Truth:
    """Read a sample's page, layers and visible masks as they lie on the canvas."""
    page = sample.page()
    whole = (0, 0, page.shape[1], page.shape[0])
    boxes = {tag: sample.boxes[tag] for tag in tags if tag in sample.boxes}
    masks = sample.masks(list(boxes))
    return Truth(
        page=fit_page(page, whole, resolution, flip=False),
        layers={
            tag: fit_layer(sample.layer(tag), box, whole, resolution, flip=False)
            for tag, box in boxes.items()
        },
        visible={tag: _fit_mask(masks[tag], whole, resolution) for tag in boxes},
    )


def _fit_mask(mask: Mask, whole: Box, resolution: int) -> Mask:
    levels = np.where(mask[..., None], np.uint8(255), np.uint8(0))
    return fit_page(levels, whole, resolution, flip=False).reshape(resolution, resolution) > 127


def true_layers_difference(sample: Sample) -> float:
    """Largest difference of a sample's own layers over each other and its page.

    Of premultiplied colour in levels of 255, where the character covers the page wholly. The
    layers are ordered by their median depth; `head` repeats its parts and is left out.
    """
    page = sample.page()
    found: list[tuple[float, Image8]] = []
    for tag in sorted(sample.boxes.keys() - {HEAD}):
        layer, depth = sample.layer(tag), sample.depth(tag)
        order = float(np.median(depth[depth > 0])) if (depth > 0).any() else 0.0
        canvas = np.zeros_like(page)
        x1, y1, x2, y2 = sample.boxes[tag]
        canvas[y1:y2, x1:x2] = layer
        found.append((order, canvas))
    layers = [layer for _, layer in sorted(found, key=lambda pair: pair[0])]
    flat = flatten(layers, page.shape[:2]).straight()
    solid = page[..., 3] == 255
    difference = np.abs(_premultiplied(flat) - _premultiplied(page))[solid]
    return float(difference.max() * 255) if solid.any() else 0.0


def score_layer(
    predicted: Image8 | None, true: Image8, visible: Mask | None = None
) -> dict[str, float]:
    """Measure one predicted layer (None: no layer) against the true one.

    Returns "iou", "mae", "psnr" and, if something of the layer is known to be hidden,
    "hidden_recall".
    """
    if predicted is None:
        predicted = np.zeros_like(true)
    ours, theirs = (torch.from_numpy(layer).float() / 255 for layer in (predicted, true))
    solid = theirs[..., 3] > 0.5
    scores = {"mae": (ours[..., 3] - theirs[..., 3]).abs().mean().item()}
    if not solid.any():
        return scores
    scores["iou"] = binary_jaccard_index(ours[..., 3], solid, validate_args=False).item()
    psnr = peak_signal_noise_ratio(ours[..., :3][solid], theirs[..., :3][solid], data_range=1.0)
    scores["psnr"] = min(psnr.item(), _PSNR_CEILING)
    hidden = solid & ~torch.from_numpy(visible) if visible is not None else None
    if hidden is not None and hidden.any():
        scores["hidden_recall"] = (ours[..., 3][hidden] > 0.5).float().mean().item()
    return scores


def score_character(
    predicted: Mapping[str, Image8],
    truth: Truth,
    tags: Sequence[str],
    recomposition: Image8,
    false_area: float = FALSE_AREA,
) -> CharacterScores:
    """Measure one character's layers.

    A predicted layer counts as one if alpha is above 0.5 on more than `false_area` of the
    canvas. `recomposition` is the predicted layers over each other.
    """
    scores: dict[str, dict[str, float]] = {}
    for tag in tags:
        layer = predicted.get(tag)
        if tag in truth.layers:
            scores[tag] = score_layer(layer, truth.layers[tag], truth.visible[tag])
        else:
            area = 0.0 if layer is None else float((layer[..., 3] > 127).mean())
            scores[tag] = {"false_layers": float(area > false_area)}
    difference = np.abs(_premultiplied(recomposition) - _premultiplied(truth.page))
    return CharacterScores(scores, float(difference.mean()))


def _premultiplied(image: Image8) -> npt.NDArray[np.float32]:
    values = image.astype(np.float32) / 255
    values[..., :3] *= values[..., 3:]
    return values.astype(np.float32, copy=False)


@attrs.frozen
class CharacterScores:
    """The measures of one character."""

    tags: dict[str, dict[str, float]]
    """Per tag, by measure; what can't be measured is missing."""
    composite_error: float
    """Mean absolute difference of the recomposition and the page, premultiplied RGBA in [0, 1]."""

    def mean(self, measure: str) -> float | None:
        """A measure's mean over the tags that have it."""
        values = [scores[measure] for scores in self.tags.values() if measure in scores]
        return float(np.mean(values)) if values else None


@attrs.frozen
class LayerScores:
    """The measures of one system over all characters."""

    characters: int
    """How many characters were measured."""
    tags: dict[str, dict[str, float | None]]
    """Per tag, the mean of each measure over the characters that have it; None if none has."""
    present: dict[str, int]
    """How many characters have the tag."""
    overall: dict[str, float | None]
    """Each measure's mean over tags, but "false_layers" over all absent (character, tag) pairs;
    "big_iou": the mean over the big tags; "composite_error": over characters."""

    def to_json(self) -> str:
        """Everything as an indented JSON object."""
        return json.dumps(attrs.asdict(self), indent=2)


class LayerMetrics(Metric):
    """Accumulates characters; each counts once. `big_tags` are averaged on their own too.

    `more` are measures beside `MEASURES` that scores may hold.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor
    composite: Tensor

    def __init__(
        self,
        tags: Sequence[str],
        big_tags: Sequence[str] = (),
        more: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if unknown := sorted(set(big_tags) - set(tags)):
            raise ValueError(f"big tags that are not measured: {', '.join(unknown)}")
        self.tags = tuple(tags)
        self.big_tags = tuple(big_tags)
        self.measures = (*MEASURES, *more)
        table = torch.zeros(len(tags), len(self.measures), dtype=torch.float64)
        self.add_state("sums", table, dist_reduce_fx="sum")
        self.add_state("counts", table.clone(), dist_reduce_fx="sum")
        # The sum over characters, and their number.
        self.add_state("composite", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: CharacterScores) -> None:
        """Add one character."""
        for row, tag in enumerate(self.tags):
            for column, measure in enumerate(self.measures):
                if (value := scores.tags[tag].get(measure)) is not None:
                    self.sums[row, column] += value
                    self.counts[row, column] += 1
        self.composite += self.composite.new_tensor([scores.composite_error, 1.0])

    def compute(self) -> LayerScores:
        """The means over what was added."""
        means = (self.sums / self.counts).tolist()
        tags = {
            tag: {
                measure: None if math.isnan(value) else value
                for measure, value in zip(self.measures, row, strict=True)
            }
            for tag, row in zip(self.tags, means, strict=True)
        }
        overall = {
            measure: _mean(row[measure] for row in tags.values()) for measure in self.measures
        }
        false = self.measures.index("false_layers")
        absent = self.counts[:, false].sum()
        overall["false_layers"] = (self.sums[:, false].sum() / absent).item() if absent else None
        overall["big_iou"] = _mean(tags[tag]["iou"] for tag in self.big_tags)
        total, characters = self.composite.tolist()
        overall["composite_error"] = total / characters if characters else None
        mae = self.measures.index("mae")
        present = {
            tag: int(count)
            for tag, count in zip(self.tags, self.counts[:, mae].tolist(), strict=True)
        }
        return LayerScores(int(characters), tags, present, overall)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
