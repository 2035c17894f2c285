"""All photos together: results file, tables, and pictures of the best and the worst."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seethrough.data.trans10k import DIFFICULTIES
from seethrough.engine.files import write_csv, write_json, write_text
from seethrough.evaluate.photo import PhotoScores
from seethrough.inference.files import replacing
from seethrough.inference.grid import picture_grid
from seethrough.metrics.segmentation import MEASURES, TransLabScores, scores_by_difficulty
from seethrough.segment.results import OVERLAY

SHOWN = 12
"""Photos in a picture of the best or the worst."""

_COLUMNS = 4
_CELL = 320

COLUMNS = {
    "images": ("image", "photos"),
    **{name: ("image", title) for name, title in MEASURES.items()},
    "dataset_iou": ("image", "IoU of all pixels"),
    "miou": ("translab", "TransLab mIoU"),
    "acc": ("translab", "TransLab ACC"),
    "translab_mae": ("translab", "TransLab MAE"),
    "mber": ("translab", "TransLab mBER"),
}
"""Columns of the table: protocol, and name for people."""

NOTES = """\
IoU, recall, BER (percent), MAE and MSE: of each photo, what is transparent being one class, then
averaged over photos. IoU of all pixels: areas summed over the photos, then divided. TransLab: on
squares of 512 px, mIoU and ACC of areas summed over the photos, MAE and mBER (percent) averaged.
Numbers of different columns, and of another grid, do not compare."""

_FORMATS = {"images": "{:.0f}", "ber": "{:.2f}", "mber": "{:.2f}"}


@attrs.frozen
class Summary:
    """Both protocols by difficulty: `easy` and `hard` where the dataset tells them, and `mix`."""

    image: dict[str, dict[str, float]]
    """Per image, as `scores_by_difficulty` gives them."""
    translab: dict[str, dict[str, float]]
    """TransLab's, as `TransLabScores` gives them."""

    def value(self, difficulty: str, column: str) -> float | None:
        """A cell of the table; None where there is nothing to measure."""
        protocol, _ = COLUMNS[column]
        name = column.removeprefix("translab_")
        return (self.image if protocol == "image" else self.translab)[difficulty].get(name)


def summarize(scores: Sequence[PhotoScores], classes: int) -> Summary:
    """Sum up photos, each once; `classes` are those that TransLab's protocol told.

    Raises:
        ValueError: without a photo.
    """
    image = scores_by_difficulty([(one.difficulty, one.image) for one in scores])
    parts = {name: [one for one in scores if one.difficulty == name] for name in DIFFICULTIES}
    parts = {name: part for name, part in parts.items() if part}
    translab = {
        name: _translab([one.translab for one in part], classes)
        for name, part in {**parts, "mix": scores}.items()
    }
    return Summary(image, translab)


def _translab(states: Iterable[Mapping[str, Any]], classes: int) -> dict[str, float]:
    # The states are those of all processes already.
    total = TransLabScores(classes, sync_on_compute=False)
    own: dict[str, Any] = total.metric_state
    for state in states:
        total.merge_state({name: torch.tensor(state[name]).to(own[name]) for name in own})
    with warnings.catch_warnings():
        # torchmetrics counts updates alone and takes merged states for none.
        warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)
        return total.compute()


def write_summary(
    out: Path,
    photos: Path,
    summary: Summary,
    scores: Sequence[PhotoScores],
    made: Mapping[str, Any],
    failures: Sequence[str],
) -> str:
    """Write all files of an evaluation; returns the table in Markdown.

    Args:
        out: where.
        photos: folder of the photos' own files.
        summary: of the scores.
        scores: of every photo that could be measured.
        made: what the results were made from.
        failures: lines of those that could not.
    """
    table = markdown(summary)
    write_text(out / "table.md", f"{table}\n{NOTES}\n")
    cells = [[summary.value(row, column) for column in COLUMNS] for row in summary.image]
    rows = [[row, *line] for row, line in zip(summary.image, cells, strict=True)]
    write_csv(out / "table.csv", ["difficulty", *COLUMNS], rows)
    each = [
        [one.name, one.difficulty, *(getattr(one.image, measure) for measure in MEASURES)]
        for one in scores
    ]
    write_csv(out / "photos.csv", ["photo", "difficulty", *MEASURES], each)
    ranked = sorted(scores, key=lambda one: one.image.iou)
    for name, chosen in (("best.jpg", ranked[::-1]), ("worst.jpg", ranked)):
        grid = _picture(photos, chosen[:SHOWN])
        with replacing(out / name) as file:
            grid.save(file, "JPEG", quality=90)
    results = {"made": made, "failed": failures, **attrs.asdict(summary), "protocols": NOTES}
    write_json(out / "results.json", results)
    return table


def markdown(summary: Summary) -> str:
    """The table: a row for each difficulty, a dash where there is nothing to measure."""
    lines = [
        "| | " + " | ".join(title for _, title in COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for difficulty in summary.image:
        cells = [_cell(column, summary.value(difficulty, column)) for column in COLUMNS]
        lines.append(f"| {difficulty} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(column: str, value: float | None) -> str:
    return "-" if value is None else _FORMATS.get(column, "{:.4f}").format(value)


def _picture(photos: Path, scores: Sequence[PhotoScores]) -> Image.Image:
    """The photos' comparisons beside each other, with name and IoU."""
    shown = [_square(photos / f"{one.name}{OVERLAY}") for one in scores]
    labels = [f"{one.name} IoU {one.image.iou:.3f}" for one in scores]
    return picture_grid(shown, min(_COLUMNS, len(shown)), labels, _CELL)


def _square(path: Path) -> Tensor:
    """A picture in the middle of a transparent square, RGBA (4, T, T) in [0, 1]."""
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    height, width = rgba.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    rgba = cv2.copyMakeBorder(
        rgba, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=0
    )
    return torch.from_numpy(np.asarray(rgba)).permute(2, 0, 1).float() / 255
