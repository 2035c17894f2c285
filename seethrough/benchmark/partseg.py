"""Measures masks of body parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from seethrough.benchmark.cases import Benchmark
from seethrough.benchmark.page import Case
from seethrough.benchmark.predictions import Prediction
from seethrough.benchmark.results import Measure, Result, Row, mean
from seethrough.benchmark.settings import PartsegSettings
from seethrough.data.layout import Sample
from seethrough.data.part_masks import (
    PartMasks,
    mask_file,
    read_masks,
    read_part_masks,
    stored_tags,
)
from seethrough.data.pictures import read_picture
from seethrough.engine.files import file_sha256
from seethrough.errors import InputError
from seethrough.metrics.partseg import PartScores

_MEASURES = {
    "iou": "IoU",
    "picture_iou": "IoU per picture",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "false_parts": "false parts",
    "accuracy": "accuracy (published: precision)",
    "published_iou": "published IoU",
}

NOTES = """\
IoU, Dice, precision and recall: pixels of all pictures together. IoU per picture: the mean over
pictures that have the part or have it found. False parts: how often a part is found in a picture
without it. Values over all are means over parts. Accuracy is the share of right pixels of all
masks, most of them empty, which the published program calls precision. The published IoU is per
picture and counts a part that is neither there nor found as an overlap of 1. Masks that are marked
as not to be relied on count nowhere; the published program counts them."""


@attrs.frozen(kw_only=True)
class PartsegBenchmark(Benchmark):
    """The measures of part segmentation."""

    settings: PartsegSettings

    def inputs(self, sample: Sample) -> dict[str, Any]:
        """What a sample's measures depend on."""
        found = self._file(sample)
        truth = mask_file(sample.page_path, stored_tags(found))
        files = (sample.page_path, truth, found)
        return {"files": [file_sha256(path) for path in files]}

    def measure(self, sample: Sample, networks: Any, features: Path) -> dict[str, Any]:
        """Measure the parts that the prediction knows."""
        del networks, features
        found, true, tags = self._read(sample, read_picture(sample.page_path))
        scores = PartScores(tags, sync_on_compute=False)
        scores.update(*map(torch.from_numpy, (found.masks, true.masks, true.valid)))
        return {
            "tags": list(tags),
            "counts": scores.counts.tolist(),
            "pictures": scores.pictures.tolist(),
        }

    def summarize(self, records: Mapping[str, Mapping[str, Any]], folder: Path) -> Result:
        """All measures.

        Raises:
            InputError: when predictions have different parts.
        """
        del folder
        known = {tuple(record["tags"]): name for name, record in records.items()}
        if len(known) > 1:
            one, other, *_ = known.values()
            raise InputError(
                f"{self.predictions}: the masks of {one} and {other} are of different parts:"
                " measure what one model found"
            )
        (tags,) = known
        counts, pictures = (
            torch.tensor([record[kind] for record in records.values()], dtype=torch.float64)
            for kind in ("counts", "pictures")
        )
        values = {
            tag: _values(counts[:, place].sum(0), pictures[:, place].sum(0))
            for place, tag in enumerate(tags)
        }
        everything = {name: mean(row[name] for row in values.values()) for name in _MEASURES}
        pixels = counts.sum((0, 1))
        everything["accuracy"] = _share(pixels[0] + pixels[2], pixels.sum())
        rows = [Row("all", len(records), everything)]
        for place, tag in enumerate(tags):
            present = int((counts[:, place, 0] + counts[:, place, 3] > 0).sum())
            rows.append(Row(tag, present, values[tag]))
        samples = [
            {
                "sample": name,
                "part": tag,
                **_values(counts[row, place], pictures[row, place]),
            }
            for row, name in enumerate(records)
            for place, tag in enumerate(tags)
        ]
        return Result(
            what="Part segmentation",
            counted="pictures",
            measures={
                name: Measure(title, "lower" if name == "false_parts" else "higher")
                for name, title in _MEASURES.items()
            },
            rows=rows,
            samples=samples,
            notes=NOTES,
        )

    def worst(
        self, samples: Sequence[Sample], records: Mapping[str, Mapping[str, Any]], count: int
    ) -> list[Case]:
        """The masks of least overlap; among equals the largest."""
        ranked: list[tuple[float, int, str, int, int]] = []
        for row, sample in enumerate(samples):
            for place, numbers in enumerate(records.get(sample.name, {}).get("counts", ())):
                right, wrong, _, missed = numbers
                if union := right + wrong + missed:
                    ranked.append((right / union, -union, sample.name, place, row))
        cases: list[Case] = []
        for overlap, _, name, place, row in sorted(ranked)[:count]:
            page = read_picture(samples[row].page_path)
            found, true, tags = self._read(samples[row], page)
            cases.append(
                Case(
                    f"{name}: {tags[place]}",
                    {"IoU": f"{overlap:.3f}"},
                    {
                        "page": page[..., :3],
                        "true": _shown(page, true.masks[place]),
                        "predicted": _shown(page, found.masks[place]),
                    },
                )
            )
        return cases

    def _file(self, sample: Sample) -> Path:
        """The file of a prediction's masks, by one of its published names."""
        name = sample.page_path.name
        names = [f"{stem}_masks.json" for stem in (name, sample.name)]
        prediction = Prediction(self.predictions, sample.name)
        if (path := prediction.first(*names)) is None:
            raise prediction.absent(names[0])
        return path

    def _read(
        self, sample: Sample, page: np.ndarray
    ) -> tuple[PartMasks, PartMasks, tuple[str, ...]]:
        """Masks as predicted and as they are, of the parts that the prediction knows."""
        file, size = self._file(sample), (page.shape[0], page.shape[1])
        tags = stored_tags(file)
        return (
            read_masks(file, tags, size),
            read_part_masks(sample.page_path, tags, size),
            tags,
        )


def _values(counts: torch.Tensor, pictures: torch.Tensor) -> dict[str, float | None]:
    """All measures of one part, from the sums that `PartScores` keeps of it."""
    right, wrong, rejected, missed = counts
    overlaps, seen, false, absent = pictures
    neither = absent - false
    return {
        "iou": _share(right, right + wrong + missed),
        "picture_iou": _share(overlaps, seen),
        "dice": _share(2 * right, 2 * right + wrong + missed),
        "precision": _share(right, right + wrong),
        "recall": _share(right, right + missed),
        "false_parts": _share(false, absent),
        "accuracy": _share(right + rejected, counts.sum()),
        "published_iou": _share(overlaps + neither, seen + neither),
    }


def _share(part: torch.Tensor, whole: torch.Tensor) -> float | None:
    return (part / whole).item() if whole else None


def _shown(page: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The page where the mask is, transparent elsewhere: (H, W, 4)."""
    return np.dstack([page[..., :3], np.where(mask, np.uint8(255), np.uint8(0))])
