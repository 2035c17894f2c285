"""Decomposes images one after the other; what is done is skipped, what fails is told.

The models take turns: on a GPU lies only the one that computes, the other waits in main memory.
While an image is computed, a thread cuts, packs and writes the one before: at most `WAITING` are
written or wait for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from seethrough.data.pictures import conversion_note, read_picture
from seethrough.decompose.images import Image
from seethrough.decompose.lock import locked
from seethrough.decompose.models import Choice, move
from seethrough.decompose.progress import Progress, bar
from seethrough.decompose.results import assemble, is_done, write_results
from seethrough.engine.files import file_sha256
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, Plane
from seethrough.inference.decompose import (
    LayerDiff,
    check_resolution,
    decompose_page,
    page_work,
)
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.marigold import Marigold, depth_work, frame_depths
from seethrough.inference.progress import Tell
from seethrough.tasks.decompose import page_seed

WAITING = 2


@attrs.frozen(kw_only=True)
class Options:
    """What is done beside the models' own options."""

    seed: int
    split: bool
    """Split parts into left and right, and by depth."""
    pngs: bool
    """Write the layers as PNGs too."""
    size: Literal["picture", "canvas"]
    """How large PSDs and PNGs are."""


@attrs.frozen
class Job:
    """An image to decompose, and what its results depend on."""

    image: Image
    inputs: dict[str, Any]


@attrs.frozen(eq=False)
class Found:
    """What the models say of an image."""

    picture: Image8
    """The image itself, (H, W, 4) straight RGBA."""
    result: Decomposition
    depths: dict[str, Plane] | None
    """By frame; None without a model of depth."""


def decompose_images(
    images: Sequence[Image], choice: Choice, options: Options, out: Path
) -> list[str]:
    """Decompose all that are not done, each into a folder of its name below `out`.

    Prints a line for each image. Returns those of the images that failed.

    Raises:
        InputError: when a model can't be loaded, or `out` can't be written or is in use.
    """
    with locked(out):
        jobs = [Job(image, _inputs(image, choice, options)) for image in images]
        todo = [job for job in jobs if not is_done(out / job.image.name, job.inputs)]
        if len(todo) < len(jobs):
            print(f"{len(jobs) - len(todo)} of {len(jobs)} are done already, in {out}", flush=True)
        return _decompose(todo, choice, options, out) if todo else []


def _inputs(image: Image, choice: Choice, options: Options) -> dict[str, Any]:
    """What an image's results depend on, as its record holds it."""
    try:
        picture = file_sha256(image.path)
    except OSError:
        picture = None  # reading it as a picture will say why
    inputs = {
        "picture": picture,
        "layers": choice.layers.identity,
        "depth": None if choice.depth is None else choice.depth.identity,
        "precision": str(choice.dtype).removeprefix("torch."),
        **choice.memory.changes(),
        **attrs.asdict(options),
        "layer_options": attrs.asdict(choice.options),
        "depth_options": None if choice.depth is None else attrs.asdict(choice.depth_options),
    }
    return inputs


def _decompose(jobs: Sequence[Job], choice: Choice, options: Options, out: Path) -> list[str]:
    layers = choice.load_layers()
    networks = Networks(layers, choice.load_depth(), choice, on_device=layers)
    progress = Progress(len(jobs))
    waiting: deque[tuple[Job, Future[str]]] = deque()

    def settle() -> None:
        """Wait for the oldest result and tell it."""
        job, future = waiting.popleft()
        with progress.image(job.image):
            progress.done(future.result())

    with ThreadPoolExecutor(1) as thread:
        for place, job in enumerate(jobs, 1):
            with progress.image(job.image):
                title = f"{place} of {len(jobs)}: {job.image.name}"
                with bar(title, networks.work) as tell:
                    found = networks.decompose(job.image, options.seed, tell)
                future = thread.submit(_write, job, found, options, out)
                waiting.append((job, future))
            while waiting and (waiting[0][1].done() or len(waiting) > WAITING):
                settle()
        while waiting:
            settle()
    return progress.failures


def _write(job: Job, found: Found, options: Options, out: Path) -> str:
    """Cut the parts and write everything; returns what to tell."""
    parts = assemble(found.result, found.depths, options.split)
    image = job.image
    psd = write_results(
        out / image.name,
        image.name,
        found.result,
        parts,
        job.inputs,
        picture=found.picture if options.size == "picture" else None,
        with_depth=found.depths is not None,
        pngs=options.pngs,
    )
    notes = [note for note in (conversion_note(image.path), found.result.note) if note]
    return f"{psd}: {len(parts)} parts" + "".join(f" ({note})" for note in notes)


@attrs.define
class Networks:
    """The models of layers and of depth, of which one at a time is on the device."""

    layers: LayerDiff
    depth: Marigold | None
    choice: Choice
    on_device: LayerDiff | Marigold

    def __attrs_post_init__(self) -> None:
        check_resolution(self.layers, self.choice.options)
        side = self.choice.depth_options.resolution
        if self.depth is not None and side and side % self.depth.pixels_per_latent:
            scale = self.depth.pixels_per_latent
            raise InputError(f"--depth_resolution={side}: no multiple of {scale}, pixels a latent")

    @property
    def work(self) -> float:
        """How much an image is, in the unit of `Tell`."""
        of_depth = 0.0 if self.depth is None else depth_work(self.choice.depth_options)
        return page_work(self.layers, self.choice.options) + of_depth

    def decompose(self, image: Image, seed: int, tell: Tell) -> Found:
        """An image's layers, and their depth by frame if there is a model of depth.

        Raises:
            InputError: when the image can't be read, or is transparent everywhere.
        """
        picture = read_picture(image.path)
        if not picture[..., 3].any():
            raise InputError(f"{image.path}: transparent everywhere: nothing to decompose")
        self._take(self.layers)
        own_seed = page_seed(seed, image.path)
        result = decompose_page(self.layers, picture, own_seed, self.choice.options, tell)
        depths = None
        if self.depth is not None:
            self._take(self.depth)
            options = self.choice.depth_options
            depths = frame_depths(self.depth, result.page, result.layers, seed, options, tell)
        return Found(picture, result, depths)

    def _take(self, models: LayerDiff | Marigold) -> None:
        """Let these be the ones on the device."""
        if self.on_device is models:
            return
        if self.choice.device.type != "cpu":
            move(self.on_device, torch.device("cpu"))
            torch.cuda.empty_cache()
        self.on_device = models
        move(models, self.choice.device)
