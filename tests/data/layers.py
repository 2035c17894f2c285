"""Samples and datasets that the tests of layer datasets share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.sample_dataset import LayerDataset
from seethrough.data.tags import TAG_GROUPS
from tests.samples import annotation, write_json, write_list, write_png, write_sample

PARITY_BOXES = {
    "head": (8, 2, 22, 14),
    "legwear": (9, 24, 21, 38),
    "topwear": (6, 13, 24, 25),
    "face": (10, 4, 20, 13),
}


def at(index: int, sample: int = 0, step: int = 0) -> Draw:
    return Draw(seed=0, stage="train", step=step, index=index, sample=sample)


def variant(dataset: LayerDataset, draw: Draw) -> tuple[Any, Any]:
    """What a draw chose: the tag in 2D, the group in 3D, and the crop."""
    item = dataset.item(draw)
    return item.text.get("group_index", item.frames[0]), item.crop


def parity_sample(folder: Path) -> Path:
    """The sample of numbers 23 and 26: constant colours with a transparent border of 1 pixel."""
    write_png(folder / "p.png", np.full((40, 30, 4), 100, np.uint8))
    for tag, (x1, y1, x2, y2) in PARITY_BOXES.items():
        layer = np.zeros((y2 - y1, x2 - x1, 4), np.uint8)
        layer[1:-1, 1:-1] = (200, 100, 50, 255)
        write_png(folder / f"p_{tag}.png", layer)
    write_json(folder / "p_ann.json", annotation((40, 30), PARITY_BOXES))
    return folder / "p.png"


def two_samples(folder: Path, name: str = "list.txt") -> Path:
    pages = [
        write_sample(folder, "a", (48, 40), ("back hair", "topwear", "face", "mouth"), seed=1),
        write_sample(folder, "b", (30, 44), ("wings", "legwear", "footwear", "objects"), seed=2),
    ]
    return write_list(folder / name, pages)


def dataset_2d(source: Path, **options) -> LayerDiff2DDataset:
    return LayerDiff2DDataset(sources=((source, 1),), **{"target_size": 24, **options})


def dataset_3d(source: Path, **options) -> LayerDiff3DDataset:
    defaults = {"target_size": 24, "groups": TAG_GROUPS, "global_batch": 4}
    return LayerDiff3DDataset(sources=((source, 1),), **{**defaults, **options})


def pictures(item: dict) -> torch.Tensor:
    layers = item["layers"] if "layers" in item else item["layer"][None]
    return torch.cat([item["page"][None], layers])
