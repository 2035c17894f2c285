"""Segments photos batch by batch; what fails is told and the rest goes on.

Photos are read ahead and results written by threads while the networks compute. With several
processes each photo belongs to one: nothing is padded, so nothing is counted twice.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import attrs
import torch
from torch import Tensor

from seethrough.decompose.folder import Progress
from seethrough.decompose.images import Image
from seethrough.engine.ranks import process_state, rank, world
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.device import choose_device
from seethrough.inference.transparency import MaskOptions, Transparency, decode_masks

THREADS = 3
"""Threads that read and write."""

T = TypeVar("T")


Finish = Callable[[Tensor], str]
"""Given a photo's mask as a picture, (3, S, S), writes the results; returns what to tell."""


@attrs.frozen(eq=False)
class Job:
    """A photo to segment."""

    image: Image
    read: Callable[[], tuple[Image8, Finish]]
    """Gives the photo, (H, W, 3) RGB, and what is to be done with its mask, or raises
    InputError."""


def join(device: str) -> torch.device:
    """The device of this process, which joins those that a launcher started with it.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        InputError: when there is no such device, or more processes than CUDA devices.
    """
    chosen = choose_device(device)
    cpu = chosen.type == "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if not cpu and local_rank >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank} of this machine finds {torch.cuda.device_count()} CUDA devices: "
            "start no more processes than that, or take --device=cpu"
        )
    if world() == 1:
        return chosen
    joined = process_state(cpu).device
    assert joined is not None
    return joined


def share(items: Sequence[T]) -> Sequence[T]:
    """What of `items` is this process's: each belongs to exactly one."""
    return items[rank() :: world()]


def gathered(items: list[T]) -> list[T]:
    """The items of all processes, on each of them; all wait for each other."""
    if world() == 1:
        return items
    import torch.distributed

    parts: list[list[T]] = [[] for _ in range(world())]
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def segment(
    jobs: Sequence[Job], models: Transparency, options: MaskOptions, batch: int
) -> list[str]:
    """Segment all jobs, `batch` photos at a time; prints a line for each.

    Returns lines that say which photos failed, and why.
    """
    progress = Progress(len(jobs))
    writing: deque[tuple[Job, Future[str]]] = deque()

    def settle(most: int) -> None:
        """Tell what is written, until at most so many results wait."""
        while writing and (len(writing) > most or writing[0][1].done()):
            job, future = writing.popleft()
            with progress.image(job.image):
                progress.done(future.result())

    with ThreadPoolExecutor(THREADS) as threads:
        reading = _read_ahead(jobs, threads, ahead=THREADS + batch)
        while chunk := list(islice(reading, batch)):
            opened: list[tuple[Job, Image8, Finish]] = []
            for job, future in chunk:
                with progress.image(job.image):
                    opened.append((job, *future.result()))
            for job, finish, picture in _predicted(opened, models, options, progress):
                writing.append((job, threads.submit(finish, picture)))
            settle(most=THREADS)
        settle(most=0)
    return progress.failures


def _read_ahead(
    jobs: Sequence[Job], threads: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Job, Future[tuple[Image8, Finish]]]]:
    """The jobs with their photos, of which at most `ahead` more than asked for are read."""
    waiting: deque[tuple[Job, Future[tuple[Image8, Finish]]]] = deque()
    for job in jobs:
        waiting.append((job, threads.submit(job.read)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def _predicted(
    opened: Sequence[tuple[Job, Image8, Finish]],
    models: Transparency,
    options: MaskOptions,
    progress: Progress,
) -> Iterator[tuple[Job, Finish, Tensor]]:
    """The jobs with their masks as pictures; without any if they fail together."""
    if not opened:
        return
    try:
        pictures = decode_masks(models, [photo for _, photo, _ in opened], options)
    except Exception as error:
        for job, _, _ in opened:
            with progress.image(job.image):
                raise error
        return
    for (job, _, finish), picture in zip(opened, pictures, strict=True):
        yield job, finish, picture
