"""What an item of training data costs: CPU time, and memory of a loader's worker.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.items FOLDER [--json=PATH]

FOLDER holds `v3.txt`, a list of samples in the published layout, best with pages of 1280 px.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from seethrough.data.draws import Draw
from seethrough.data.items import CHARACTER, PAGE, Item
from seethrough.recipe import Local, evolve
from seethrough.recipes.layerdiff import LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.tasks.datasets import group_dataset, layer_dataset
from seethrough.tasks.latents import PictureItems
from seethrough.tasks.task import StageContext

ITEMS = 48
"""Measured items of each kind."""

PREFETCHED = 4
"""Items that a worker has ready, as in training."""

MIB = 2**20


def datasets(folder: Path) -> dict[str, PictureItems]:
    """The datasets of 3D and 2D training with the published options, on the folder's samples."""
    source = Local(str(folder / "v3.txt"))
    stage_3d, stage_2d = LayerDiff3DTrain(), LayerDiff2DTrain()
    context = StageContext(
        "items", folder, {source: folder / "v3.txt"}, torch.device("cpu"), lambda text: None
    )
    data_3d = evolve(stage_3d.data, sources=((source, 1),))
    data_2d = evolve(stage_2d.data, sources=((source, 1),))
    return {
        f"3D, {data_3d.target_size} px": PictureItems(group_dataset(data_3d, context), None),
        f"2D, {data_2d.target_size} px": PictureItems(layer_dataset(data_2d, context), None),
    }


def draws(dataset: PictureItems, count: int) -> list[Draw]:
    """The first items of a run."""
    return [Draw(0, "items", 0, index, index % len(dataset)) for index in range(count)]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all of the process's threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def decode_with_pillow(item: Item) -> None:
    """Decode the files of an item's pictures, and nothing more."""
    for name in item.names:
        sample = item.sample
        path = sample.page_path if name in (PAGE, CHARACTER) else sample.layer_path(name)
        Image.open(path).load()


def measure(dataset: PictureItems, count: int) -> dict[str, Any]:
    """Items and their files' decoding in turn: medians, and the median of the ratio."""
    pairs: list[tuple[float, float]] = []
    chosen = draws(dataset, count)
    for draw in [*chosen[: count // 8], *chosen]:
        item = dataset.dataset.item(draw)
        seconds = cpu_seconds(lambda draw=draw: dataset[draw])
        pairs.append((seconds, cpu_seconds(lambda item=item: decode_with_pillow(item))))
    pairs = pairs[count // 8 :]  # what comes before is for warming up
    ratios = [item / decoding for item, decoding in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "items": count,
        "item_cpu_s": statistics.median(item for item, _ in pairs),
        "pillow_cpu_s": statistics.median(decoding for _, decoding in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [low, high],
    }


class WithMemory(Dataset[Any]):
    """Items, each with the bytes that its worker's peak is above what it began with."""

    def __init__(self, dataset: PictureItems) -> None:
        self.dataset = dataset
        self.start: int | None = None

    def __getitem__(self, draw: Draw) -> Any:
        if self.start is None:
            # Nothing but imports has happened in this process so far.
            self.start = _peak_bytes()
        return self.dataset[draw], _peak_bytes() - self.start


def worker_peak(dataset: PictureItems, count: int) -> float:
    """Peak RSS in MiB of a data loader's worker, above that of its imports."""
    loader = DataLoader(
        WithMemory(dataset),
        sampler=draws(dataset, count),  # pyright: ignore[reportArgumentType]
        batch_size=None,
        num_workers=1,
        prefetch_factor=PREFETCHED,
    )
    return max(peak for _, peak in loader) / MIB


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.items", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder with v3.txt, a list of samples")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = datasets(options.folder)
    # First, while this process, from which workers are forked, holds nothing but imports.
    peaks = {name: worker_peak(dataset, ITEMS // 2) for name, dataset in found.items()}
    figures = {name: measure(dataset, ITEMS) for name, dataset in found.items()}
    print(f"{'item':<12} {'CPU s':>7} {'Pillow s':>9} {'ratio':>6} {'quartiles':>13} {'MiB':>6}")
    for name, values in figures.items():
        values["worker_peak_mib"] = peaks[name]
        low, high = values["ratio_quartiles"]
        print(
            f"{name:<12} {values['item_cpu_s']:>7.3f} {values['pillow_cpu_s']:>9.3f} "
            f"{values['ratio']:>6.2f} {low:>6.2f} {high:>6.2f} {values['worker_peak_mib']:>6.0f}"
        )
    print("Pillow: decoding the same files. MiB: peak of a loader's worker above its imports.")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
