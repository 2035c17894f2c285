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

from seethrough.data.depth import DepthDataset2D, DepthDataset3D, DepthItem
from seethrough.data.draws import Draw
from seethrough.data.items import CHARACTER, PAGE, Item
from seethrough.data.tags import TAGS_V2, V2_PARTS
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

Items = PictureItems | DepthDataset2D | DepthDataset3D


def datasets(folder: Path) -> dict[str, Items]:
    """The datasets of 3D and 2D training with the published options, on the folder's samples."""
    return {**layer_datasets(folder), **depth_datasets(folder)}


def layer_datasets(folder: Path) -> dict[str, Items]:
    """LayerDiff's."""
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


def depth_datasets(folder: Path) -> dict[str, Items]:
    """Marigold's: 9, 12 and 20 frames in turn, the page among them, or a page alone."""
    shared: dict[str, Any] = {
        "sources": [(folder / "v3.txt", 1)],
        "target_size": 768,
        "random_flip": 0.5,
        "layer_alpha": "premultiplied",
    }
    head, body = TAGS_V2[:11], TAGS_V2[11:]
    frames = DepthDataset3D(
        **shared,
        groups=(head, body, TAGS_V2),
        crop_tags=(head[1:], (), ()),
        random_pad_prob=0.5,
        global_batch=8,
    )
    page = DepthDataset2D(**shared, random_crop=0.3, random_hsv=0.25)
    return {"depth 3D, 768 px": frames, "depth 2D, 768 px": page}


def draws(dataset: Items, count: int) -> list[Draw]:
    """The first items of a run."""
    return [Draw(0, "items", 0, index, index % len(dataset)) for index in range(count)]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all of the process's threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def choose(dataset: Items, draw: Draw) -> Item:
    """What a draw chooses, before anything is decoded."""
    return (dataset.dataset if isinstance(dataset, PictureItems) else dataset).item(draw)


def decode_with_pillow(item: Item) -> None:
    """Decode the files of an item's pictures and depths, and nothing more."""
    sample = item.sample
    for name in item.names:
        if name in (PAGE, CHARACTER):
            files = [(sample.page_path, sample.path("_depth.png"))]
        else:
            # V2's hair and eyes lie there as their parts.
            stored = [tag for tag in (name, *V2_PARTS.get(name, ())) if _is_stored(item, tag)]
            files = [(sample.layer_path(tag), sample.path(f"_{tag}_depth.png")) for tag in stored]
        for picture, depth in files:
            Image.open(picture).load()
            if isinstance(item, DepthItem):
                Image.open(depth).load()


def _is_stored(item: Item, tag: str) -> bool:
    return item.sample.layer_path(tag).exists()


def measure(dataset: Items, count: int) -> dict[str, Any]:
    """Items and their files' decoding in turn: medians, and the median of the ratio."""
    pairs: list[tuple[float, float]] = []
    chosen = draws(dataset, count)
    for draw in [*chosen[: count // 8], *chosen]:
        item = choose(dataset, draw)
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

    def __init__(self, dataset: Items) -> None:
        self.dataset = dataset
        self.start: int | None = None

    def __getitem__(self, draw: Draw) -> Any:
        if self.start is None:
            # Nothing but imports has happened in this process so far.
            self.start = _peak_bytes()
        return self.dataset[draw], _peak_bytes() - self.start


def worker_peak(dataset: Items, count: int) -> float:
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
    print(f"{'item':<16} {'CPU s':>7} {'Pillow s':>9} {'ratio':>6} {'quartiles':>13} {'MiB':>6}")
    for name, values in figures.items():
        values["worker_peak_mib"] = peaks[name]
        low, high = values["ratio_quartiles"]
        print(
            f"{name:<16} {values['item_cpu_s']:>7.3f} {values['pillow_cpu_s']:>9.3f} "
            f"{values['ratio']:>6.2f} {low:>6.2f} {high:>6.2f} {values['worker_peak_mib']:>6.0f}"
        )
    print("Pillow: decoding the same files. MiB: peak of a loader's worker above its imports.")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
