"""The batches of a stage: which samples each process sees at each optimizer step."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seethrough.data.draws import Draw, sample_order
from seethrough.data.replacement import BadSample, Loaded, load
from seethrough.engine.bad_samples import note
from seethrough.errors import InputError
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import Batch, Task


@attrs.frozen
class Split:
    """How a global batch falls to processes: `accumulation` micro-batches for each."""

    global_batch: int
    micro_batch: int
    rank: int
    world: int

    @classmethod
    def of(cls, stage: TrainStage, rank: int, world: int) -> "Split":
        """The split of a stage's batch; raises InputError if it is uneven."""
        share = world * stage.hardware.micro_batch
        if stage.data.global_batch % share:
            raise InputError(
                f"data.global_batch={stage.data.global_batch} doesn't split over {world} processes "
                f"x hardware.micro_batch={stage.hardware.micro_batch}: change one of them"
            )
        return cls(stage.data.global_batch, stage.hardware.micro_batch, rank, world)

    @property
    def accumulation(self) -> int:
        """Micro-batches per process and optimizer step."""
        return self.global_batch // (self.micro_batch * self.world)

    def indices(self, micro_step: int) -> range:
        """Places in the global batch of this process's micro-batch number `micro_step`."""
        first = (micro_step * self.world + self.rank) * self.micro_batch
        return range(first, first + self.micro_batch)


class MicroBatches(Sampler[list[Draw]]):
    """Draws of every micro-batch of one process from step `start` to `stop`, in order.

    The whole stream follows from (seed, stage, rows, step, place in the global batch). Nothing
    is kept between steps, so a resumed run continues with the very draws it would have had.
    """

    def __init__(
        self, seed: int, stage: str, rows: int, split: Split, start: int, stop: int
    ) -> None:
        self.seed = seed
        self.stage = stage
        self.rows = rows
        self.split = split
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.split.accumulation

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.stop):
            for micro_step in range(self.split.accumulation):
                yield [self._draw(step, index) for index in self.split.indices(micro_step)]

    def _draw(self, step: int, index: int) -> Draw:
        position = step * self.split.global_batch + index
        sample = sample_order(self.seed, self.stage, self.rows, position)
        return Draw(seed=self.seed, stage=self.stage, step=step, index=index, sample=sample)


class _CarriesBadInput(Dataset[Any]):
    """A dataset whose InputErrors are items: raised in a worker, they would bring a traceback."""

    def __init__(self, dataset: Dataset[Batch], skip: bool) -> None:
        self.dataset = dataset
        self.skip = skip

    def __getitem__(self, draw: Draw) -> Loaded | InputError:
        try:
            return load(self.dataset, draw, self.skip)
        except InputError as error:
            return error


@attrs.frozen
class _Collate:
    """The task's `collate`, past which InputErrors and what was left out are carried."""

    collate: Callable[[list[Batch]], Batch]

    def __call__(
        self, items: list[Loaded | InputError]
    ) -> tuple[Batch, list[BadSample]] | InputError:
        loaded: list[Loaded] = []
        for item in items:
            if isinstance(item, InputError):
                return item
            loaded.append(item)
        try:
            batch = self.collate([item.item for item in loaded])
        except InputError as error:
            return error
        return batch, [bad for item in loaded for bad in item.left_out]


def _one_thread(worker: int) -> None:
    """Have OpenCV compute in the worker's own thread, as PyTorch does there without being told.

    Else each worker would start a thread for every core of the machine.
    """
    import cv2

    del worker
    cv2.setNumThreads(0)


def load_batches(
    task: Task[Any],
    dataset: Dataset[Batch],
    batches: MicroBatches,
    workers: int,
    device: torch.device,
) -> Iterator[Batch]:
    """The micro-batches in order; memory is pinned for CUDA so that copies overlap with compute.

    Raises the InputError of a bad sample as it is, whichever worker met it, or leaves the sample
    out and names it in the stage's list, as the recipe says.
    """
    loader = DataLoader(
        _CarriesBadInput(dataset, skip=task.stage.data.bad_samples == "skip"),
        batch_sampler=batches,
        collate_fn=_Collate(task.collate),
        num_workers=workers,
        worker_init_fn=_one_thread,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    for loaded in loader:
        if isinstance(loaded, InputError):
            raise loaded
        batch, left_out = loaded
        for bad in left_out:
            sample = task.sample_name(bad.row)
            if note(task.context.directory, sample, bad.error):
                # The process that met it first speaks, be it not the main one.
                print(f"{task.context.name}: left out {sample}: {bad.error}", flush=True)
        yield batch
