"""Pictures of LayerDiff's training: what the network makes of a few samples.

All is drawn at `fixed_draws`: pictures of different steps differ by the network alone.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.data.items import PAGE
from seethrough.inference.grid import picture_grid
from seethrough.inference.sampling import Solver, sample_latents
from seethrough.tasks.datasets import readable
from seethrough.tasks.latents import PictureItems
from seethrough.tasks.layerdiff import LayerDiffTask
from seethrough.tasks.task import Batch

STEPS = 25
"""Denoising steps, as published."""

ROWS = 8
"""Samples in a 2D picture, as published."""

SEARCHED = 16
"""Samples among which a 3D picture looks for one that has a layer of the group."""

Network: TypeAlias = Callable[[Tensor, Tensor, Tensor, dict[str, Tensor]], Tensor]
"""Noisy latents with conditions (1, F, (1 + K) * C, h, w), timesteps (1,), hidden states and added
conditions of the captions -> the network's prediction (1, F, C, h, w)."""


def tag_rows(task: LayerDiffTask[Any], network: Network) -> Image.Image:
    """A row for each of the first samples: true layer, prediction, the page with its caption.

    A further condition stands behind the page.
    """
    cells: list[tuple[Tensor, str]] = []
    columns = 0
    for row in range(min(ROWS, len(task.layers))):
        (draw,) = task.fixed_draws("pictures", row, row)
        item = _item(task, draw)
        caption: str = item["caption"]
        (predicted,) = _predict(task, item, [caption], network)
        (name,) = item["frames"]
        page, *others = (_true(item, condition) for condition in item["conditions"])
        cells += [(_true(item, name), ""), (predicted, ""), (page, caption)]
        cells += [(other, "") for other in others]
        columns = 3 + len(others)
    return _grid(cells, columns)


def group_frames(task: LayerDiffTask[Any], group: int, network: Network) -> Image.Image:
    """The page, then true layer and prediction of each tag that the sample has, two tags a row.

    The sample is the first that has any layer of the group.
    """
    rows = range(min(SEARCHED, len(task.layers)))
    items = (_item(task, task.fixed_draws("pictures", 0, row)[group]) for row in rows)
    first = next(items)
    item = next((item for item in itertools.chain([first], items) if any(item["frames"])), first)
    captions: list[str] = item["captions"]
    page = _true(item, PAGE)
    cells = [(page, PAGE), (torch.zeros_like(page), "")]
    predicted = iter(_predict(task, item, captions, network))
    for name, caption in zip(item["frames"], captions, strict=True):
        if name is not None:
            cells += [(_true(item, name), f"{caption}: true"), (next(predicted), caption)]
    return _grid(cells, columns=4)


def _item(task: LayerDiffTask[Any], draw: Draw) -> Batch:
    """An item with all its pictures."""
    return readable(PictureItems(task.layers, None), draw, task.stage.data, task.context)


def _true(item: Batch, name: str) -> Tensor:
    """A picture of an item, (4, T, T) RGBA in [0, 1]."""
    return item["pictures"][name][[1, 2, 3, 0]] / 255


def _grid(cells: Sequence[tuple[Tensor, str]], columns: int) -> Image.Image:
    pictures, labels = zip(*cells, strict=True)
    return picture_grid(pictures, columns, labels)


@torch.no_grad()
def _predict(
    task: LayerDiffTask[Any], item: Batch, captions: Sequence[str], network: Network
) -> list[Tensor]:
    """Denoise an item's frames; of those that its sample has, (4, T, T) RGBA in [0, 1]."""
    device, encoder = task.context.device, task.encoder
    # Conditions without noise or offset.
    means = [
        encoder.posterior(item["pictures"][name].to(device))[:1] for name in item["conditions"]
    ]
    _, channels, height, width = means[0].shape
    conditions = encoder.scale * torch.cat(means, dim=1)[:, None]
    hidden, added = task.text_conditions([list(captions)])
    frames = len(item["frames"])

    def predict(latents: Tensor, timesteps: Tensor) -> Tensor:
        repeated = conditions.expand(-1, frames, -1, -1, -1)
        return network(torch.cat([latents, repeated], dim=2), timesteps, hidden, added)

    latents = sample_latents(
        predict,
        solver=Solver(prediction_type=task.stage.objective.prediction_type),
        steps=STEPS,
        shape=(frames, channels, height, width),
        generators=[item["draw"].numpy("pictures")],
        shared_init_noise=False,
        device=device,
    )
    present = [place for place, name in enumerate(item["frames"]) if name is not None]
    # One at a time: the pixel decoder works at full size.
    layers = [latents[:, place] / encoder.scale for place in present]
    with torch.autocast(device.type, enabled=False):
        return [task.transparent_vae.decode(task.vae, layer)[0].cpu() for layer in layers]
