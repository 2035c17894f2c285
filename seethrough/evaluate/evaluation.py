"""Measures a model on pairs of photo and mask: what is done is skipped, what fails is told."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from seethrough.data.trans10k import Pair, read_pair
from seethrough.decompose.images import Image
from seethrough.engine.ranks import everywhere, rank
from seethrough.errors import InputError
from seethrough.evaluate.photo import (
    PhotoScores,
    check_classes,
    measure,
    photo_name,
    pictures,
    small_comparison,
)
from seethrough.evaluate.settings import Settings
from seethrough.evaluate.summary import summarize, write_summary
from seethrough.inference.composite import Image8
from seethrough.segment.masks import make_folder, photo_sha256
from seethrough.segment.models import Choice
from seethrough.segment.photos import Finish, Job, gathered, segment, share
from seethrough.segment.results import read_done, set_attribute, write_results

PHOTOS = "photos"
"""Folder of what is kept of every photo."""

_SCORES = "scores"
_ATTRIBUTES = ("iou", "recall", "mse")


def evaluate(
    root: Path,
    pairs: Sequence[Pair],
    choice: Choice,
    settings: Settings,
    device: torch.device,
    out: Path,
) -> list[str]:
    """Measure all pairs that are not done, with the other processes if there are any.

    `root` is the dataset's folder, for the record.

    Prints a line for each photo and, on the main process, the table. Returns lines that say which
    photos failed, on all processes: they are in no mean.

    Raises:
        InputError: when the model can't be loaded or tells other classes than the dataset, or when
            `out` can't be written.
    """
    make_folder(out)
    classes = choice.options.classes
    for pair in pairs:
        check_classes(pair, classes)
    if settings.xattr:
        with tempfile.NamedTemporaryFile(dir=out, prefix=".partial-") as probe:
            set_attribute(Path(probe.name), "iou", 0.0)
    inputs = everywhere(lambda: [_inputs(pair, choice, settings) for pair in pairs])
    todo = everywhere(
        lambda: [
            place
            for place, pair in enumerate(pairs)
            if read_done(out / PHOTOS, photo_name(pair), inputs[place]) is None
        ]
    )
    if rank() == 0:
        print(choice.account(device), flush=True)
        if len(todo) < len(pairs):
            print(f"{len(pairs) - len(todo)} of {len(pairs)} are done already, in {out}")
    jobs = [
        Job(
            Image(pairs[place].photo, photo_name(pairs[place])),
            partial(_read, pairs[place], inputs[place], classes, settings, out / PHOTOS),
        )
        for place in share(todo)
    ]
    failures = segment(jobs, choice.load(device), choice.options, settings.batch) if jobs else []
    failures = gathered(failures)
    made = {
        "dataset": str(root),
        "split": settings.split,
        "difficulty": settings.difficulty,
        "grid": settings.grid or "photo",
        **choice.identity(),
    }
    everywhere(lambda: _conclude(pairs, inputs, classes, made, failures, out))
    return failures


def _inputs(pair: Pair, choice: Choice, settings: Settings) -> dict[str, Any]:
    return {
        "photo": photo_sha256(pair.photo),
        "mask": photo_sha256(pair.mask),
        "version": pair.version,
        "grid": settings.grid,
        "pictures": settings.pictures,
        "xattr": settings.xattr,
        **choice.identity(),
    }


def _read(
    pair: Pair, inputs: Mapping[str, Any], classes: int, settings: Settings, folder: Path
) -> tuple[Image8, Finish]:
    photo, true = read_pair(pair)
    return photo, partial(_finish, pair, photo, true, inputs, classes, settings, folder)


def _finish(
    pair: Pair,
    photo: Image8,
    true: np.ndarray,
    inputs: Mapping[str, Any],
    classes: int,
    settings: Settings,
    folder: Path,
    picture: Tensor,
) -> str:
    """Measure a photo and write what is kept of it; returns what to tell."""
    scores = measure(pair, picture, true, classes, settings.grid)
    kept = small_comparison(photo, picture, true, classes)
    if settings.pictures:
        kept |= pictures(photo, picture, true, classes, settings.grid)
    values = {name: getattr(scores.image, name) for name in _ATTRIBUTES} if settings.xattr else {}
    write_results(folder, scores.name, inputs, kept, {_SCORES: attrs.asdict(scores)}, values)
    return f"{pair.photo}: IoU {scores.image.iou:.4f}"


def _conclude(
    pairs: Sequence[Pair],
    inputs: Sequence[Mapping[str, Any]],
    classes: int,
    made: Mapping[str, Any],
    failures: Sequence[str],
    out: Path,
) -> None:
    """Write what is known of all photos together, each counted once, in the dataset's order."""
    records = [
        read_done(out / PHOTOS, photo_name(pair), given)
        for pair, given in zip(pairs, inputs, strict=True)
    ]
    scores = [PhotoScores.from_plain(record[_SCORES]) for record in records if record is not None]
    if len(scores) + len(failures) != len(pairs):
        raise InputError(
            f"{out}: results of {len(scores)} photos lie there and {len(failures)} failed, of "
            f"{len(pairs)}: were files removed meanwhile? The same command goes on"
        )
    if not scores:
        raise InputError(f"{out}: all {len(pairs)} photos failed: there is nothing to measure")
    summary = summarize(scores, classes)
    print(write_summary(out, out / PHOTOS, summary, scores, made, list(failures)), flush=True)
