"""Pictures of LayerDiff's training: what the network makes of a few samples.

All is drawn at `fixed_draws`: pictures of different steps differ by the network alone.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from seethrough.data.items import PAGE
from seethrough.inference.grid import picture_grid
from seethrough.tasks.layerdiff import LayerDiffTask
from seethrough.tasks.layerdiff_prediction import (
    Network,
    predict_layers,
    shown_item,
    true_layer,
)

ROWS = 8
"""Samples in a 2D picture, as published."""

SEARCHED = 16
"""Samples among which a 3D picture looks for one that has a layer of the group."""


def tag_rows(task: LayerDiffTask[Any], network: Network) -> Image.Image:
    """A row for each of the first samples: true layer, prediction, the page with its caption.

    A further condition stands behind the page.
    """
    cells: list[tuple[Tensor, str]] = []
    columns = 0
    for row in range(min(ROWS, len(task.layers))):
        (draw,) = task.fixed_draws("pictures", row, row)
        item = shown_item(task, task.layers, draw)
        caption: str = item["caption"]
        (predicted,) = predict_layers(task, item, [caption], network)
        (name,) = item["frames"]
        page, *others = (true_layer(item, condition) for condition in item["conditions"])
        cells += [(true_layer(item, name), ""), (predicted, ""), (page, caption)]
        cells += [(other, "") for other in others]
        columns = 3 + len(others)
    return _grid(cells, columns)


def group_frames(task: LayerDiffTask[Any], group: int, network: Network) -> Image.Image:
    """The page, then true layer and prediction of each tag that the sample has, two tags a row.

    The sample is the first that has any layer of the group.
    """
    rows = range(min(SEARCHED, len(task.layers)))
    items = (
        shown_item(task, task.layers, task.fixed_draws("pictures", 0, row)[group]) for row in rows
    )
    first = next(items)
    item = next((item for item in itertools.chain([first], items) if any(item["frames"])), first)
    captions: list[str] = item["captions"]
    page = true_layer(item, PAGE)
    cells = [(page, PAGE), (torch.zeros_like(page), "")]
    predicted = iter(predict_layers(task, item, captions, network))
    for name, caption in zip(item["frames"], captions, strict=True):
        if name is not None:
            cells += [(true_layer(item, name), f"{caption}: true"), (next(predicted), caption)]
    return _grid(cells, columns=4)


def _grid(cells: Sequence[tuple[Tensor, str]], columns: int) -> Image.Image:
    pictures, labels = zip(*cells, strict=True)
    return picture_grid(pictures, columns, labels)
