"""Measures predicted layers, tag by tag, on a square canvas and on cut-outs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from seethrough.benchmark.cases import Benchmark
from seethrough.benchmark.networks import Found, Networks
from seethrough.benchmark.page import Case
from seethrough.benchmark.predictions import Layers, Prediction
from seethrough.benchmark.results import Measure, Result, Row
from seethrough.benchmark.settings import LayersSettings
from seethrough.data.crops import fit_layer, square, union_box
from seethrough.data.layout import Sample
from seethrough.data.merged import merged
from seethrough.data.tags import TAGS_V2, TAGS_V3
from seethrough.engine.files import file_sha256
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, content_box
from seethrough.inference.files import replacing
from seethrough.metrics.clip_score import CLIP_MEASURES
from seethrough.metrics.inception import SET_MEASURES, frechet_distance, kernel_distance
from seethrough.metrics.layers import (
    MEASURES,
    CharacterScores,
    LayerMetrics,
    Truth,
    load_truth,
    score_character,
)
from seethrough.metrics.overlap import DICE_MEASURES, layer_overlap
from seethrough.metrics.pictures import PICTURE_MEASURES, picture_scores

CUTOUT_ALPHA = 10
"""A cut-out has all pixels whose alpha is above this, as published."""

_LOWER = ("mae", "false_layers", "published_dice_loss", "lpips", "fid", "kid", "composite_error")
_ONE_DECIMAL = ("psnr", "picture_psnr", "clip_score", "clip_similarity", "fid")

NOTES = """\
Layers are brought to a square of {resolution} px. Alpha IoU, Dice (both of alpha above one half),
alpha MAE and colour PSNR (where the true alpha is above one half) are of true layers, and so are
the measures of pictures: a layer that was not predicted counts as an empty one. Hidden recall is
the share of pixels, hidden in the page, that the prediction has. False layers is the share of
absent tags for which a layer was predicted. The published Dice loss lacks a factor 2: a perfect
mask has about 0.5. Pictures are compared on the square around a true and a predicted layer, on
white, at {cutout} px; the published benchmark stretches it, and has other numbers. The CLIP score
is of such a cut-out and its tag's name. FID depends on how many cut-outs there are. Values over all
are means over tags, but false layers over all absent ones, FID and KID over all cut-outs, and the
composite error over samples: the mean absolute difference of the layers over each other and the
page, premultiplied."""


@attrs.frozen(kw_only=True)
class LayersBenchmark(Benchmark):
    """The measures of layers."""

    settings: LayersSettings
    found: Found

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that are measured."""
        return TAGS_V3 if self.settings.tags == "v3" else TAGS_V2

    @property
    def more(self) -> tuple[str, ...]:
        """What is measured of a layer beside `MEASURES`."""
        return (*DICE_MEASURES, *PICTURE_MEASURES, *self.found.measures)

    def inputs(self, sample: Sample) -> dict[str, Any]:
        """What a sample's measures depend on."""
        files = self._prediction(sample).layer_files()
        return {
            "layers": sample.bytes_hash() + sample.masks_hash(),
            "predicted": {path.name: file_sha256(path) for path in files},
            "tags": self.settings.tags,
            "resolution": self.settings.resolution,
            "cutout": self.settings.cutout,
            "networks": self.found.identity,
        }

    def load(self, device: torch.device) -> Networks:
        """The networks."""
        return Networks(self.found, device)

    def measure(self, sample: Sample, networks: Networks, features: Path) -> dict[str, Any]:
        """Measure a page; writes the features of its cut-outs."""
        truth, predicted = self._read(sample)
        scores = score_character(predicted.by_tag, truth, self.tags, predicted.recomposition)
        pairs: dict[str, tuple[Image8, Image8]] = {}
        for tag, true in truth.layers.items():
            found = predicted.by_tag.get(tag, np.zeros_like(true))
            scores.tags[tag].update(layer_overlap(found, true))
            if (cut := cutouts(found, true, self.settings.cutout)) is not None:
                pairs[tag] = cut
        if pairs:
            tags = list(pairs)
            ours, theirs = (
                torch.stack([on_white(pair[place]) for pair in pairs.values()]).to(networks.device)
                for place in (0, 1)
            )
            compared = picture_scores(ours, theirs) | networks.scores(ours, theirs, tags)
            columns = {name: values.tolist() for name, values in compared.items()}
            for place, tag in enumerate(tags):
                scores.tags[tag].update({name: rows[place] for name, rows in columns.items()})
            if sets := networks.features(ours, theirs):
                with replacing(features) as file:
                    file.write(save(sets))
        return {**attrs.asdict(scores), "cut": list(pairs)}

    def summarize(self, records: Mapping[str, Mapping[str, Any]], folder: Path) -> Result:
        """All measures; `folder` holds the features."""
        metrics = LayerMetrics(self.tags, more=self.more, sync_on_compute=False)
        for record in records.values():
            metrics.update(CharacterScores(record["tags"], record["composite_error"]))
        scores = metrics.compute()
        sets = self._sets(records, folder)
        rows = [Row("all", scores.characters, {**scores.overall, **sets.get(None, {})})]
        rows += [
            Row(tag, scores.present[tag], {**scores.tags[tag], **sets.get(tag, {})})
            for tag in self.tags
        ]
        names = [*metrics.measures, *(SET_MEASURES if self.found.inception else ())]
        titles = {**MEASURES, **DICE_MEASURES, **PICTURE_MEASURES, "lpips": "LPIPS"}
        titles |= {**CLIP_MEASURES, **SET_MEASURES, "composite_error": "composite error"}
        samples = [
            {"sample": name, "tag": tag, **{m: values.get(m) for m in metrics.measures}}
            for name, record in records.items()
            for tag, values in record["tags"].items()
        ]
        return Result(
            what="Layers",
            counted="samples",
            measures={
                name: Measure(
                    titles[name],
                    "lower" if name in _LOWER else "higher",
                    1 if name in _ONE_DECIMAL else 3,
                )
                for name in (*names, "composite_error")
            },
            rows=rows,
            samples=samples,
            notes=NOTES.format(resolution=self.settings.resolution, cutout=self.settings.cutout),
            missing=self.found.missing,
        )

    def worst(
        self, samples: Sequence[Sample], records: Mapping[str, Mapping[str, Any]], count: int
    ) -> list[Case]:
        """The true layers of least IoU."""
        ranked = sorted(
            (values["iou"], -values["mae"], sample.name, tag, place)
            for place, sample in enumerate(samples)
            if sample.name in records
            for tag, values in records[sample.name]["tags"].items()
            if "iou" in values
        )[:count]
        read: dict[int, tuple[Truth, Layers]] = {}
        cases: list[Case] = []
        for _, _, name, tag, place in ranked:
            if place not in read:
                read[place] = self._read(samples[place])
            truth, predicted = read[place]
            true = truth.layers[tag]
            values = records[name]["tags"][tag]
            numbers = {**MEASURES, **DICE_MEASURES, **PICTURE_MEASURES}
            cases.append(
                Case(
                    f"{name}: {tag}",
                    {t: f"{values[m]:.3f}" for m, t in numbers.items() if m in values},
                    {
                        "page": truth.page[..., :3],
                        "true": true,
                        "predicted": predicted.by_tag.get(tag, np.zeros_like(true)),
                    },
                )
            )
        return cases

    def _prediction(self, sample: Sample) -> Prediction:
        return Prediction(self.predictions, sample.name)

    def _read(self, sample: Sample) -> tuple[Truth, Layers]:
        """What is known of a page and what is predicted, on the canvas."""
        if sample.size is None:
            raise InputError(
                f"{sample.path('_ann.json')}: no such file: layers are measured on pages that have"
                " theirs"
            )
        predicted = self._prediction(sample).layers()
        if unknown := sorted(predicted.by_tag.keys() - set(self.tags)):
            other = "v2" if self.settings.tags == "v3" else "v3"
            raise InputError(
                f"{self._prediction(sample).layer_files()[0]}: has {', '.join(unknown)}, which are"
                f" not among the tags that are measured: give --tags={other}"
            )
        side = self.settings.resolution
        check_extent(self._prediction(sample), predicted.recomposition, sample.size)
        return load_truth(merged(sample), self.tags, side), Layers(
            {tag: _fit(layer, side) for tag, layer in predicted.by_tag.items()},
            _fit(predicted.recomposition, side),
        )

    def _sets(
        self, records: Mapping[str, Mapping[str, Any]], folder: Path
    ) -> dict[str | None, dict[str, float]]:
        """FID and KID of each tag and, by None, over all; where there are two cut-outs."""
        if self.found.inception is None:
            return {}
        sets: dict[str | None, dict[str, list[Tensor]]] = {}
        for name, record in records.items():
            if not record["cut"]:
                continue
            stored = read_features(folder / f"{name}.safetensors")
            for row, tag in enumerate(record["cut"]):
                for key in (tag, None):
                    both = sets.setdefault(key, {"predicted": [], "true": []})
                    for kind, features in both.items():
                        features.append(stored[kind][row])
        values: dict[str | None, dict[str, float]] = {}
        for key, both in sets.items():
            predicted, true = (torch.stack(both[kind]) for kind in ("predicted", "true"))
            if len(true) > 1:
                distances = frechet_distance(predicted, true), kernel_distance(predicted, true)
                values[key] = dict(zip(SET_MEASURES, distances, strict=True))
        return values


def read_features(path: Path) -> dict[str, Tensor]:
    """What `measure` wrote.

    Raises:
        InputError: when it can't be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: can't be read ({error}): remove it and start again") from error


def cutouts(predicted: Image8, true: Image8, side: int) -> tuple[Image8, Image8] | None:
    """A layer as predicted and as it is, cut to the square around both: (side, side, 4) each.

    Both (R, R, 4) straight RGBA. None where the true one shows nothing.
    """
    boxes = [content_box(layer, CUTOUT_ALPHA) for layer in (true, predicted)]
    if boxes[0] is None:
        return None
    height, width = true.shape[:2]
    box = square(union_box([box for box in boxes if box is not None], height, width))
    whole = (0, 0, width, height)
    found, wanted = (fit_layer(layer, whole, box, side, flip=False) for layer in (predicted, true))
    return found, wanted


def on_white(layer: Image8) -> Tensor:
    """(S, S, 4) straight RGBA over white -> (3, S, S) float32 in [0, 1]."""
    values = torch.from_numpy(layer).float() / 255
    alpha = values[..., 3:]
    return (values[..., :3] * alpha + 1 - alpha).permute(2, 0, 1)


def check_extent(prediction: Prediction, picture: np.ndarray, page: tuple[int, int]) -> None:
    """Raise InputError for a picture that can be neither the page nor a square around it."""
    height, width = picture.shape[:2]
    if height != width and abs(height * page[1] - width * page[0]) > max(*page, height, width):
        raise InputError(
            f"{prediction.folder / prediction.name}: predicted on {width} x {height} px: neither"
            f" the page, of {page[1]} x {page[0]} px, nor a square around it"
        )


def _fit(layer: Image8, side: int) -> Image8:
    whole = (0, 0, layer.shape[1], layer.shape[0])
    return fit_layer(layer, whole, whole, side, flip=False)
