"""Masks of photos, at their sizes: what is done is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seethrough.data.pictures import conversion_note
from seethrough.data.trans10k import read_photo
from seethrough.decompose.images import Image
from seethrough.engine.files import file_sha256
from seethrough.engine.ranks import everywhere, rank
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.mask_picture import grey, overlay
from seethrough.inference.transparency import fit_mask, soft_masks
from seethrough.metrics.segmentation import THRESHOLD
from seethrough.segment.models import Choice
from seethrough.segment.photos import Finish, Job, gathered, segment, share
from seethrough.segment.results import OVERLAY, PREDICTION, QUANTISED, read_done, write_results


def segment_images(
    images: Sequence[Image], choice: Choice, device: torch.device, batch: int, out: Path
) -> list[str]:
    """Segment all images that are not done, with the other processes if there are any.

    Prints a line for each image. Returns those of the images that failed, on all processes.

    Raises:
        InputError: when the model can't be loaded, or `out` can't be made.
    """
    make_folder(out)

    def unfinished() -> list[tuple[Image, dict[str, Any]]]:
        found = [(image, _inputs(image, choice)) for image in images]
        return [
            (image, inputs) for image, inputs in found if read_done(out, image.name, inputs) is None
        ]

    todo = everywhere(unfinished)
    if rank() == 0:
        print(choice.account(device), flush=True)
        if len(todo) < len(images):
            print(f"{len(images) - len(todo)} of {len(images)} are done already, in {out}")
    jobs = [_job(image, inputs, choice.options.classes, out) for image, inputs in share(todo)]
    failures = segment(jobs, choice.load(device), choice.options, batch) if jobs else []
    return gathered(failures)


def make_folder(out: Path) -> None:
    """Make the folder that `--out` names, or raise InputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out}: no folder can be made there ({error.strerror})") from error


def photo_sha256(path: Path) -> str | None:
    """The hash of a photo's file; None for one that reading will fail for."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def _inputs(image: Image, choice: Choice) -> dict[str, Any]:
    return {"photo": photo_sha256(image.path), **choice.identity()}


def _job(image: Image, inputs: Mapping[str, Any], classes: int, out: Path) -> Job:
    def read() -> tuple[Image8, Finish]:
        photo = read_photo(image.path)
        return photo, lambda picture: finish(photo, picture)

    def finish(photo: Image8, picture: Tensor) -> str:
        plane = soft_masks(picture[None], classes)[0].numpy()
        soft = fit_mask(plane, (photo.shape[0], photo.shape[1]))
        mask = soft > THRESHOLD
        transparent = float(mask.mean())
        pictures = {PREDICTION: grey(soft), QUANTISED: grey(mask), OVERLAY: overlay(photo, mask)}
        write_results(out, image.name, inputs, pictures, {"transparent": transparent})
        note = conversion_note(image.path)
        said = f"{out / image.name}{QUANTISED}: {transparent:.1%} transparent"
        return said if note is None else f"{said} ({note})"

    return Job(image, read)
