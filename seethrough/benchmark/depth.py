"""Measures predicted depth: of layers that share a scale, of the page, and the layers' order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from seethrough.benchmark.cases import Benchmark
from seethrough.benchmark.depth_predictions import DepthPrediction, Plane
from seethrough.benchmark.page import Case
from seethrough.benchmark.results import Measure, Result, Row, mean
from seethrough.benchmark.settings import DepthSettings
from seethrough.data.crops import fit_layer, fit_levels
from seethrough.data.depth import disk_to_depth
from seethrough.data.items import SEEN_ALPHA
from seethrough.data.layout import Box, Sample
from seethrough.data.merged import merged
from seethrough.data.tags import TAGS_V2, TAGS_V3
from seethrough.engine.files import file_sha256
from seethrough.errors import InputError
from seethrough.inference.depth_picture import depth_picture
from seethrough.metrics.depth import ALIGNMENTS, DEPTH_MEASURES, DepthMetrics
from seethrough.metrics.depth_order import DepthOrder, Pair, pair_orders, varying_pairs

_ALIGNMENTS = {"least_squares": "least squares", "median": "median"}
_ORDER = {"all_pairs": "pairs in order", "varying_pairs": "varying pairs in order"}
_HIGHER = ("a1", "a2", "a3", "coverage", *_ORDER)

NOTES = """\
Depth has no unit: a prediction is aligned to the truth by one scale and shift for all layers of a
sample, least squares or median and spread, and measured on [1, 2], near 1. What counts are the
pixels of true layers that the predicted ones have too; coverage is their share, and a prediction
that leaves out layers has less of it. Order is the share of overlapping pairs of layers that the
prediction draws the right way round, and of those pairs of tags that lie both ways round among
these samples. A pair with a layer that was not predicted is wrong."""


@attrs.frozen(eq=False)
class Truth:
    """The true depth of a page and its layers, as large as the prediction."""

    layers: dict[str, Plane]
    """By tag, (h, w) in [-1, 1], near -1; NaN where a layer is not."""
    page: Plane
    """Likewise, NaN where no character is."""


@attrs.frozen(kw_only=True)
class DepthBenchmark(Benchmark):
    """The measures of depth."""

    settings: DepthSettings

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that are measured."""
        return TAGS_V3 if self.settings.tags == "v3" else TAGS_V2

    def inputs(self, sample: Sample) -> dict[str, Any]:
        """What a sample's measures depend on."""
        files = self._prediction(sample).files()
        return {
            "depths": sample.bytes_hash() + sample.depths_hash(),
            "predicted": {path.name: file_sha256(path) for path in files},
            "tags": self.settings.tags,
            "nearest": self.settings.nearest,
        }

    def measure(self, sample: Sample, networks: Any, features: Path) -> dict[str, Any]:
        """Measure a sample's layers, its page, or both, whatever was predicted."""
        del networks, features
        if sample.size is None:
            raise InputError(
                f"{sample.path('_ann.json')}: no such file: depth is measured on pages that have"
                " theirs"
            )
        prediction = self._prediction(sample)
        planes, page = prediction.layers(), prediction.page()
        whole = merged(sample)
        record: dict[str, Any] = {"layers": None, "page": None}
        if planes:
            size = next(iter(planes.values())).shape
            truth = self._truth(whole, (size[0], size[1]))
            empty = np.full(size, np.nan, np.float32)
            pairs = [(planes.get(tag, empty), true) for tag, true in truth.layers.items()]
            record["layers"] = _errors(pairs)
        if page is not None:
            truth = self._truth(whole, (page.shape[0], page.shape[1]))
            record["page"] = _errors([(page, truth.page)])
        orders = pair_orders(whole if self.settings.tags == "v2" else sample)
        record["orders"] = [
            [*pair, first]
            for pair, first in orders.items()
            if all(tag in self.tags for tag in pair)
        ]
        record["places"] = prediction.places()
        return record

    def summarize(self, records: Mapping[str, Mapping[str, Any]], folder: Path) -> Result:
        """All measures; each sample weighs the same, but in the order each pair."""
        del folder
        rows: list[Row] = []
        for part in ("layers", "page"):
            found = [record[part] for record in records.values() if record[part] is not None]
            for alignment, title in _ALIGNMENTS.items():
                if found:
                    rows.append(Row(f"{part}, {title}", len(found), _means(found, alignment)))
        ordered = [record for record in records.values() if record["places"] is not None]
        if ordered:
            rows.append(Row("order of layers", len(ordered), _order(ordered)))
        names = {**DEPTH_MEASURES, "coverage": "coverage", **_ORDER}
        samples = [
            {"sample": name, "part": part, **_flat(record[part])}
            for name, record in records.items()
            for part in ("layers", "page")
            if record[part] is not None
        ]
        missing = [
            f"{what}: no sample's prediction has {which}"
            for what, which, given in (
                ("depth of layers", "their depths", any(r["layers"] for r in records.values())),
                ("depth of pages", "that of the page", any(r["page"] for r in records.values())),
                ("order of layers", "a JSON with their median depths", ordered),
            )
            if not given
        ]
        return Result(
            what="Depth",
            counted="samples",
            measures={
                name: Measure(title, "higher" if name in _HIGHER else "lower", 4)
                for name, title in names.items()
            },
            rows=rows,
            samples=samples,
            notes=NOTES,
            missing=missing,
        )

    def worst(
        self, samples: Sequence[Sample], records: Mapping[str, Mapping[str, Any]], count: int
    ) -> list[Case]:
        """The samples of largest relative error, of their layers if these were predicted."""
        ranked: list[tuple[float, str, str, Sample]] = []
        for sample in samples:
            record = records.get(sample.name, {})
            for part in ("layers", "page"):
                if record.get(part) is not None and record[part]["least_squares"] is not None:
                    error = record[part]["least_squares"]["abs_rel"]
                    ranked.append((-error, sample.name, part, sample))
        ranked.sort(key=lambda one: one[:3])
        return [
            self._case(sample, part, records[sample.name][part])
            for _, _, part, sample in ranked[:count]
        ]

    def _case(self, sample: Sample, part: str, record: Mapping[str, Any]) -> Case:
        prediction = self._prediction(sample)
        if part == "page":
            page = prediction.page()
            assert page is not None
            size = (page.shape[0], page.shape[1])
            true = self._truth(merged(sample), size).page
            found = _aligned([page], [true])
        else:
            planes = prediction.layers()
            size = next(iter(planes.values())).shape[:2]
            layers = self._truth(merged(sample), size).layers
            empty = np.full(size, np.nan, np.float32)
            found = _aligned([planes.get(tag, empty) for tag in layers], list(layers.values()))
            true = _nearest(layers.values(), size)
        return Case(
            f"{sample.name}: {part}",
            {
                title: f"{record['least_squares'][name]:.4f}"
                for name, title in DEPTH_MEASURES.items()
            }
            | {"coverage": f"{record['coverage']:.3f}"},
            {
                "page": sample.page()[..., :3],
                "true": depth_picture(true, span=(-1.0, 1.0)),
                "predicted, aligned": depth_picture(found, span=(-1.0, 1.0)),
            },
        )

    def _prediction(self, sample: Sample) -> DepthPrediction:
        return DepthPrediction(self.predictions, sample.name, self.settings.nearest)

    def _truth(self, sample: Sample, size: tuple[int, int]) -> Truth:
        """The true depths at a prediction's size, the page's or a square's around it."""
        assert sample.size is not None
        levels = sample.depth()
        nearest = int(levels.max(initial=0))
        if not nearest:
            raise InputError(
                f"{sample.path('_depth.png')}: no pixel has a level above 0: render it again"
            )
        height, width = sample.size
        whole = (0, 0, width, height)
        alpha = sample.page()
        layers: dict[str, Plane] = {}
        for tag in self.tags:
            if tag in sample.boxes:
                at = sample.boxes[tag]
                layers[tag] = _seen(sample, sample.depth(tag), sample.layer(tag), at, size, nearest)
        return Truth(layers, _seen(sample, levels, alpha, whole, size, nearest))


def _seen(
    sample: Sample,
    levels: np.ndarray,
    rgba: np.ndarray,
    at: Box,
    size: tuple[int, int],
    nearest: int,
) -> Plane:
    """Depth of what lies at a box of the page, at another size; NaN where nothing is seen."""
    assert sample.size is not None
    height, width = sample.size
    if size == sample.size:
        placed = np.zeros(size, levels.dtype)
        alpha = np.zeros(size, np.uint8)
        window = np.s_[at[1] : at[3], at[0] : at[2]]
        placed[window], alpha[window] = levels, rgba[..., 3]
    elif size[0] == size[1]:
        whole = (0, 0, width, height)
        placed = fit_levels(levels, at, whole, size[0], flip=False)
        alpha = fit_layer(rgba, at, whole, size[0], flip=False)[..., 3]
    else:
        raise InputError(
            f"{sample.page_path}: {width} x {height} px, but depth was predicted on {size[1]} x"
            f" {size[0]}: neither the page nor a square around it"
        )
    seen = (alpha > SEEN_ALPHA) & (placed > 0)
    return np.where(seen, disk_to_depth(placed, nearest), np.float32(np.nan))


def _errors(pairs: Sequence[tuple[Plane, Plane]]) -> dict[str, Any]:
    """The measures by alignment, None where nothing was predicted, and the coverage."""
    if not pairs:
        return {"coverage": 0.0, **dict.fromkeys(_ALIGNMENTS)}
    predicted, true = (
        torch.from_numpy(np.stack([pair[place] for pair in pairs])) for place in (0, 1)
    )
    seen = ~true.isnan()
    mask = seen & ~predicted.isnan()
    errors: dict[str, Any] = {
        "coverage": (mask.sum() / seen.sum()).item() if seen.any() else 0.0,
        **dict.fromkeys(_ALIGNMENTS),
    }
    if mask.any():
        for alignment in ("least_squares", "median"):
            metrics = DepthMetrics(alignment, sync_on_compute=False)
            metrics.update(predicted.nan_to_num(0), true.nan_to_num(0), mask)
            errors[alignment] = metrics.compute()
    return errors


def _means(found: Sequence[Mapping[str, Any]], alignment: str) -> dict[str, float | None]:
    known = [one[alignment] for one in found if one[alignment] is not None]
    means = {name: mean(one[name] for one in known) for name in DEPTH_MEASURES}
    return {**means, "coverage": mean(one["coverage"] for one in found)}


def _order(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    orders: list[dict[Pair, bool]] = [
        {(one, other): first for one, other, first in record["orders"]} for record in records
    ]
    metric = DepthOrder(varying_pairs(orders), sync_on_compute=False)
    for order, record in zip(orders, records, strict=True):
        metric.update(order, record["places"])
    scores = metric.compute()
    return {name: getattr(scores, name) for name in _ORDER}


def _flat(record: Mapping[str, Any]) -> dict[str, float | None]:
    """A sample's measures as plain columns."""
    return {
        "coverage": record["coverage"],
        **{
            f"{alignment}_{name}": (record[alignment] or {}).get(name)
            for alignment in _ALIGNMENTS
            for name in DEPTH_MEASURES
        },
    }


def _aligned(predicted: Sequence[Plane], true: Sequence[Plane]) -> Plane:
    """Predicted planes in the scale of the truth, the nearest of them at each pixel."""
    found, wanted = (torch.from_numpy(np.stack(planes)) for planes in (predicted, true))
    mask = ~found.isnan() & ~wanted.isnan()
    alignment = ALIGNMENTS["least_squares"](found.nan_to_num(0), wanted.nan_to_num(0), mask)
    return _nearest(alignment(found).numpy(), predicted[0].shape)


def _nearest(planes: Iterable[Plane], size: tuple[int, ...]) -> Plane:
    """The nearest of planes at each pixel, NaN where none has depth."""
    nearest = np.full(size, np.nan, np.float32)
    for plane in planes:
        nearest = np.fmin(nearest, plane)
    return nearest
