"""Body parts of pages, at their sizes: what is done is skipped, what fails is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from seethrough.data.part_masks import encode_mask
from seethrough.data.pictures import conversion_note, read_picture
from seethrough.decompose.images import Image
from seethrough.decompose.progress import Progress
from seethrough.engine.ranks import everywhere, rank
from seethrough.inference.part_picture import part_picture
from seethrough.inference.partseg import PartSegModel, predict_parts
from seethrough.partseg.models import Choice
from seethrough.segment.masks import make_folder, photo_sha256
from seethrough.segment.photos import gathered, share
from seethrough.segment.results import read_done, write_results

MASKS, PICTURE = "_masks.json", "_parts.png"
"""What follows a page's file name in those of its results; the masks as published."""


def find_parts(
    images: Sequence[Image], choice: Choice, device: torch.device, out: Path
) -> list[str]:
    """Find the parts of all pages that are not done, with the other processes if there are any.

    Prints a line for each page. Returns those of the pages that failed, on all processes.

    Raises:
        InputError: when the model can't be loaded, or `out` can't be made.
    """
    make_folder(out)

    def unfinished() -> list[tuple[Image, dict[str, Any]]]:
        found = [(image, _inputs(image, choice)) for image in images]
        return [
            (image, inputs)
            for image, inputs in found
            if read_done(out, image.path.name, inputs) is None
        ]

    todo = everywhere(unfinished)
    if rank() == 0:
        print(f"model: {choice.path}; {choice.precision} on {device.type}", flush=True)
        if len(todo) < len(images):
            print(f"{len(images) - len(todo)} of {len(images)} are done already, in {out}")
    own = share(todo)
    progress = Progress(len(own))
    model = choice.load(device) if own else None
    for image, inputs in own:
        assert model is not None
        with progress.image(image):
            progress.done(_page(image, inputs, model, out))
    return gathered(progress.failures)


def _inputs(image: Image, choice: Choice) -> dict[str, Any]:
    """What the results of a page depend on."""
    return {
        "page": photo_sha256(image.path),
        "model": choice.identity,
        "precision": choice.precision,
    }


def _page(image: Image, inputs: dict[str, Any], model: PartSegModel, out: Path) -> str:
    """Find the parts of a page, write the results, and say what was found."""
    page = read_picture(image.path)[..., :3]
    masks = predict_parts(model, page)
    name = image.path.name
    entries = [
        {**encode_mask(mask), "tag": tag} for tag, mask in zip(model.tags, masks, strict=True)
    ]
    shares = {tag: float(mask.mean()) for tag, mask in zip(model.tags, masks, strict=True)}
    contents = {
        PICTURE: part_picture(page, masks, model.tags),
        MASKS: json.dumps(entries).encode(),
    }
    write_results(out, name, inputs, contents, {"shares": shares})
    found = [tag for tag, part in shares.items() if part > 0]
    note = conversion_note(image.path)
    said = f"{out / name}{MASKS}: {len(found)} of {len(shares)} parts found"
    return said if note is None else f"{said} ({note})"
