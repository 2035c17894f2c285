"""Decomposes images one after the other; what is done is skipped, what fails is told.

The models take turns: on a GPU lies only the one that computes, the other waits in main memory.
While an image is computed, a thread cuts, packs and writes the one before: at most `WAITING` are
written or wait for that.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import torch

from seethrough.data.pictures import conversion_note, read_picture
from seethrough.decompose.images import Image
from seethrough.decompose.models import Choice, move
from seethrough.decompose.results import assemble, is_done, write_results
from seethrough.engine.files import file_sha256
from seethrough.errors import InputError
from seethrough.inference.composite import Plane
from seethrough.inference.decompose import LayerDiff, check_resolution, decompose_page
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.marigold import Marigold, frame_depths
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


@attrs.frozen
class Job:
    """An image to decompose, and what its results depend on."""

    image: Image
    inputs: dict[str, Any]


@attrs.define
class Progress:
    """Tells what is done, what failed, and how long the rest may take."""

    total: int
    started: float = attrs.field(init=False, factory=time.monotonic)
    finished: int = attrs.field(init=False, default=0)
    failures: list[str] = attrs.field(init=False, factory=list)
    """A line for each image that failed: which, and why."""

    def done(self, line: str) -> None:
        """An image is decomposed."""
        self.finished += 1
        print(f"{self.finished} of {self.total}: {line}{self._left()}", flush=True)

    @contextlib.contextmanager
    def image(self, image: Image) -> Iterator[None]:
        """Tell an error of the block as the image's failure; the others go on."""
        try:
            yield
        except BrokenPipeError:
            raise  # nobody reads any more what is told
        except Exception as error:
            if not isinstance(error, InputError | OSError | MemoryError | torch.OutOfMemoryError):
                traceback.print_exception(error)
            reason = _reason(error)
            shown = reason if str(image.path) in reason else f"{image.path}: {reason}"
            self.finished += 1
            self.failures.append(shown)
            line = f"{self.finished} of {self.total}: failed: {shown}{self._left()}"
            print(line, file=sys.stderr, flush=True)

    def _left(self) -> str:
        rest = self.total - self.finished
        if not rest:
            return ""
        seconds = (time.monotonic() - self.started) / self.finished * rest
        return f"; about {_duration(seconds)} left"


def decompose_images(
    images: Sequence[Image], choice: Choice, options: Options, out: Path
) -> list[str]:
    """Decompose all that are not done, each into a folder of its name below `out`.

    Prints a line for each image. Returns those of the images that failed.

    Raises:
        InputError: when a model can't be loaded, or `out` can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out}: no folder can be made there ({error.strerror})") from error
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
        for job in jobs:
            with progress.image(job.image):
                work = networks.decompose(job.image, options.seed)
                future = thread.submit(_write, job, *work, options, out)
                waiting.append((job, future))
            while waiting and (waiting[0][1].done() or len(waiting) > WAITING):
                settle()
        while waiting:
            settle()
    return progress.failures


def _write(
    job: Job,
    result: Decomposition,
    depths: Mapping[str, Plane] | None,
    options: Options,
    out: Path,
) -> str:
    """Cut the parts and write everything; returns what to tell."""
    parts = assemble(result, depths, options.split)
    image = job.image
    psd = write_results(
        out / image.name,
        image.name,
        result,
        parts,
        job.inputs,
        with_depth=depths is not None,
        pngs=options.pngs,
    )
    notes = [note for note in (conversion_note(image.path), result.note) if note]
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

    def decompose(self, image: Image, seed: int) -> tuple[Decomposition, dict[str, Plane] | None]:
        """An image's layers, and their depth by frame if there is a model of depth.

        Raises:
            InputError: when the image can't be read, or is transparent everywhere.
        """
        page = read_picture(image.path)
        if not page[..., 3].any():
            raise InputError(f"{image.path}: transparent everywhere: nothing to decompose")
        self._take(self.layers)
        own_seed = page_seed(seed, image.path)
        result = decompose_page(self.layers, page, own_seed, self.choice.options)
        if self.depth is None:
            return result, None
        self._take(self.depth)
        depths = frame_depths(
            self.depth, result.page, result.layers, seed, self.choice.depth_options
        )
        return result, depths

    def _take(self, models: LayerDiff | Marigold) -> None:
        """Let these be the ones on the device."""
        if self.on_device is models:
            return
        if self.choice.device.type != "cpu":
            move(self.on_device, torch.device("cpu"))
            torch.cuda.empty_cache()
        self.on_device = models
        move(models, self.choice.device)


def _reason(error: Exception) -> str:
    """Why an image failed, in a line."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory: take a smaller --resolution, or --precision=bf16"
    return f"{type(error).__name__}: {error}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
