"""The stage that measures which of two overlapping layers comes out in front."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import torch

from seethrough.data.layout import Box, Sample, read_sample
from seethrough.data.merged import merged
from seethrough.data.sample_dataset import layers_box
from seethrough.data.tags import HEAD, TAGS_V2
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.marigold import (
    DepthOptions,
    Marigold,
    frame_depths,
    load_marigold,
    reconstruct_depths,
)
from seethrough.inference.page_order import follow_page
from seethrough.inference.parts import Part, cut_parts, fixed_depths, layer_depths, order_parts
from seethrough.metrics.depth_order import (
    DepthOrder,
    OrderScores,
    Pair,
    pair_orders,
    tag_depths,
    varying_pairs,
)
from seethrough.recipes.marigold import OrderLayers
from seethrough.tasks.task import StageContext, StageResult

MODEL, DEPTH, TAGS, TAGS_AND_PAGE, CEILING = (
    "model", "depth alone", "tag order", "tags and page", "ceiling",
)  # fmt: skip
"""Layers as decomposition orders them, by depth and by what the page shows; by depth alone; in a
fixed order of tags, and this with what the page shows; by true depth through the autoencoder."""


def depth_order_stage(stage: OrderLayers, context: StageContext) -> StageResult:
    """Measure all pages; print the table, and write it and the scores."""
    known = context.pages(stage.known)
    # Decoding PNGs leaves Python's lock to the others.
    with ThreadPoolExecutor(stage.hardware.threads or os.cpu_count()) as pool:
        orders = pool.map(lambda path: pair_orders(read_sample(path, stage.layer_alpha)), known)
        comparison = Comparison(varying_pairs(orders))
    models = load_marigold(
        context.path(stage.unet),
        context.path(stage.base),
        context.device,
        torch.bfloat16 if stage.precision == "bf16" else torch.float32,
    )
    options = DepthOptions(
        resolution=stage.resolution,
        steps=stage.sampler.steps,
        noise=stage.sampler.noise,
        ensemble=stage.ensemble,
        absent_frames=stage.frames.absent,
        transparent=stage.frames.transparent,
    )
    for path in context.pages(stage.pages):
        page = cut_page(read_sample(path, stage.layer_alpha), stage.crop_to)
        comparison.add(page.orders, _systems(page, models, stage, options))
    table = comparison.table()
    context.report(table)
    scores_file, table_file = context.directory / "scores.json", context.directory / "table.txt"
    scores_file.write_text(json.dumps(comparison.scores(), indent=1))
    table_file.write_text(table)
    return StageResult({"scores": scores_file, "table": table_file}, comparison.metrics())


@attrs.frozen(eq=False)
class Page:
    """A page with its true layers, cut out."""

    rgba: Image8
    """(H, W, 4) straight RGBA."""
    layers: Mapping[str, Image8]
    """Likewise, by tag, as stored, without `head`."""
    levels: Mapping[str, np.ndarray]
    """(H, W) uint16 by V2's tags: 0 empty, larger nearer."""
    nearest: int
    """The page's largest level."""
    orders: Mapping[Pair, bool]
    """What `pair_orders` tells of the layers."""


def cut_page(sample: Sample, crop_to: str) -> Page:
    """Decode a sample and cut it to the whole page, or to the box of the character's layers.

    Raises:
        InputError: when the sample's layers aren't known, or a file of it can't be read.
    """
    if sample.size is None:
        raise InputError(
            f"{sample.path('_ann.json')}: no such file; the order of layers is measured on pages "
            "that have theirs"
        )
    height, width = sample.size
    whole = merged(sample)
    box = (0, 0, width, height)
    if crop_to == "character":
        box = layers_box(whole, sample.size, whole.boxes)
    window = np.s_[box[1] : box[3], box[0] : box[2]]
    depth = sample.depth()[window]
    return Page(
        rgba=sample.page()[window],
        layers={
            tag: _placed(sample.layer(tag), at, sample.size)[window]
            for tag, at in sample.boxes.items()
            if tag != HEAD
        },
        levels={
            tag: _placed(whole.depth(tag), at, sample.size)[window]
            for tag, at in whole.boxes.items()
            if tag in TAGS_V2
        },
        nearest=int(depth.max(initial=0)),
        orders=pair_orders(sample),
    )


def _placed(picture: np.ndarray, at: Box, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, ...) on an empty page."""
    page = np.zeros((*size, *picture.shape[2:]), picture.dtype)
    page[at[1] : at[3], at[0] : at[2]] = picture
    return page


def _systems(
    page: Page, models: Marigold, stage: OrderLayers, options: DepthOptions
) -> dict[str, dict[str, float]]:
    """The depth of each layer, by what tells it."""
    predicted = frame_depths(models, page.rgba, page.layers, stage.seed, options)
    true = reconstruct_depths(
        models, page.levels, page.nearest, options, beyond=stage.frames.beyond
    )
    by_depth, by_tag, by_truth = (
        order_parts(cut_parts(page.layers, depths))
        for depths in (
            layer_depths(page.layers, predicted),
            fixed_depths(page.layers),
            layer_depths(page.layers, true),
        )
    )
    return {
        MODEL: _medians(follow_page(by_depth, page.rgba)),
        DEPTH: _medians(by_depth),
        TAGS: tag_depths(),
        TAGS_AND_PAGE: _medians(follow_page(by_tag, page.rgba)),
        CEILING: _medians(by_truth),
    }


def _medians(parts: Iterable[Part]) -> dict[str, float]:
    return {part.tag: part.depth_median for part in parts}


class Comparison:
    """Scores over the pages that are added, of all pairs, the varying ones, and each of these."""

    def __init__(self, varying: frozenset[Pair]) -> None:
        self.pages = 0
        self._varying = varying
        self._overall = _new_metrics(varying)
        self._pairs: dict[Pair, dict[str, DepthOrder]] = {}

    def add(self, orders: Mapping[Pair, bool], systems: Mapping[str, Mapping[str, float]]) -> None:
        """Add a page's true orders, and the depths of its layers by each system."""
        self.pages += 1
        for pair in orders.keys() & self._varying:
            self._pairs.setdefault(pair, _new_metrics(self._varying))
        for name, depths in systems.items():
            self._overall[name].update(orders, depths)
            for pair in orders.keys() & self._varying:
                self._pairs[pair][name].update({pair: orders[pair]}, depths)

    def overall(self) -> dict[str, OrderScores]:
        """The scores of each system."""
        return {name: metric.compute() for name, metric in self._overall.items()}

    def pairs(self) -> dict[Pair, tuple[int, dict[str, float | None]]]:
        """Of each varying pair that was met, how often, and each system's share."""
        found = {
            pair: {name: metric.compute() for name, metric in metrics.items()}
            for pair, metrics in sorted(self._pairs.items())
        }
        return {
            pair: (scores[MODEL].varying, {n: s.varying_pairs for n, s in scores.items()})
            for pair, scores in found.items()
        }

    def metrics(self) -> dict[str, float]:
        """The scores as numbers of the stage."""
        overall = self.overall()
        shares = {
            f"{name.replace(' ', '_')}_{kind}": getattr(scores, kind)
            for name, scores in overall.items()
            for kind in ("all_pairs", "varying_pairs")
        }
        counts = {"pairs": overall[MODEL].pairs, "varying": overall[MODEL].varying}
        return {name: value for name, value in (shares | counts).items() if value is not None}

    def scores(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "pages": self.pages,
            "overall": {name: attrs.asdict(scores) for name, scores in self.overall().items()},
            "varying_pairs": [
                {"pair": pair, "count": count, **shares}
                for pair, (count, shares) in self.pairs().items()
            ],
        }

    def table(self) -> str:
        """The same as text."""
        overall = self.overall()
        first = overall[MODEL]
        rows = [
            ("all pairs", first.pairs, [scores.all_pairs for scores in overall.values()]),
            ("varying pairs", first.varying, [s.varying_pairs for s in overall.values()]),
            *(
                (f"  {one}, {other}", count, list(shares.values()))
                for (one, other), (count, shares) in self.pairs().items()
            ),
        ]
        label = max(len(title) for title, _, _ in rows)
        head = f"{f'{self.pages} pages':<{label}}  pairs"
        lines = [head + "".join(f"  {name:>9}" for name in overall)]
        lines += [f"{title:<{label}}  {n:>5}{_cells(shares)}" for title, n, shares in rows]
        return "\n".join(lines) + "\n"


def _new_metrics(varying: frozenset[Pair]) -> dict[str, DepthOrder]:
    # One process measures: under an outer launcher the others wouldn't come to a gathering.
    names = (MODEL, DEPTH, TAGS, TAGS_AND_PAGE, CEILING)
    return {name: DepthOrder(varying, sync_on_compute=False) for name in names}


def _cells(shares: Sequence[float | None]) -> str:
    return "".join(f"  {'-' if share is None else f'{share:.3f}':>9}" for share in shares)
