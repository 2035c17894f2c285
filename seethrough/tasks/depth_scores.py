"""The stage that measures predicted depth beside the mean depth by place."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from seethrough.data.depth import DepthDataset2D
from seethrough.data.depth_control import ControlledDepthDataset, nearness
from seethrough.data.draws import Draw
from seethrough.engine.files import write_json
from seethrough.metrics.depth import DEPTH_MEASURES
from seethrough.models.depth_anything import network_image
from seethrough.models.depth_anything_adapter import ExtendDepthAnythingV2
from seethrough.models.depth_anything_files import load_either
from seethrough.recipe import Source
from seethrough.recipes.depth_anything import DepthScores
from seethrough.tasks.depth_anything import measure
from seethrough.tasks.latents import network_input
from seethrough.tasks.task import Batch, StageContext, StageResult

NETWORK, MEAN = "pages: network", "pages: mean by place"
CONTROLLED, UNCONTROLLED = "layers: with control", "layers: without"

SHOWN = ("rmse", "abs_rel", "silog", "a1")
"""Measures of the table, aligned by least squares; the file has all."""


def depth_scores_stage(stage: DepthScores, context: StageContext) -> StageResult:
    """Measure all pages, and a layer of each with control; print the table, write it and more."""
    network: Any = load_either(context.path(stage.network))
    network.to(context.device)
    mean = mean_nearness(DepthDataset2D(**_options(stage, stage.known, context)))
    pages = ControlledDepthDataset(**_options(stage, stage.pages, context))

    def predict(batch: Batch, *control: Tensor) -> Tensor:
        image = network_image(network_input(batch["picture"].to(context.device))[:, 1:])
        with torch.no_grad():
            return network(image, *(signal.to(context.device) for signal in control))

    systems: dict[str, tuple[Callable[[Batch], Tensor], ControlledDepthDataset]] = {
        NETWORK: (predict, pages),
        MEAN: (lambda batch: mean[None], pages),
    }
    if isinstance(network, ExtendDepthAnythingV2):
        layers = ControlledDepthDataset(
            **_options(stage, stage.pages, context), control_probability=1.0, tags=stage.tags
        )
        systems[CONTROLLED] = (lambda batch: predict(batch, batch["control"]), layers)
        systems[UNCONTROLLED] = (predict, layers)
    scores = {name: measure(tell, _batches(data)) for name, (tell, data) in systems.items()}
    table = _table(scores)
    context.report(table)
    scores_file, table_file = context.directory / "scores.json", context.directory / "table.txt"
    write_json(scores_file, scores)
    table_file.write_text(table)
    names = {NETWORK: "rmse", MEAN: "mean_rmse"}
    names |= {CONTROLLED: "controlled_rmse", UNCONTROLLED: "uncontrolled_rmse"}
    metrics = {
        names[system]: found["least_squares/rmse"] for system, found in scores.items() if found
    }
    limit = (1 - stage.margin) * metrics["mean_rmse"]
    reached = metrics["rmse"] <= limit
    context.report(
        f"{context.name}: RMSE of pages {metrics['rmse']:.3f}, at most {limit:.3f} to reach: "
        f"{'reached' if reached else 'NOT reached'}"
    )
    return StageResult(
        {"scores": scores_file, "table": table_file}, metrics | {"reached": float(reached)}
    )


def mean_nearness(dataset: DepthDataset2D) -> Tensor:
    """The mean over a dataset's pages, (1, T, T): what is known without looking."""
    total = torch.zeros(1, dataset.target_size, dataset.target_size)
    for row in range(len(dataset)):
        total += nearness(dataset[_draw(row)]["depth"])
    return total / len(dataset)


def _options(stage: DepthScores, source: Source, context: StageContext) -> dict[str, Any]:
    return {
        "sources": [(context.path(source), 1)],
        "data_roots": context.data_roots,
        "target_size": stage.target_size,
        "layer_alpha": stage.layer_alpha,
        "crop_to": stage.crop_to,
    }


def _batches(dataset: ControlledDepthDataset) -> Iterator[Batch]:
    """A batch of one of every sample; where layers are asked for, of those that give one."""
    for row in range(len(dataset)):
        item = dataset[_draw(row)]
        if item["layer"] is not None or dataset.control_probability == 0:
            yield {k: value[None] for k, value in item.items() if isinstance(value, Tensor)}


def _draw(row: int) -> Draw:
    return Draw(seed=0, stage="scores", step=0, index=row, sample=row)


def _table(scores: dict[str, dict[str, float]]) -> str:
    """The measures as text, a row for each system."""
    titles = [DEPTH_MEASURES[name] for name in SHOWN]
    label = max(map(len, scores))
    lines = [" " * label + "".join(f"  {title}" for title in titles)]
    for system, found in scores.items():
        cells = [f"{found[f'least_squares/{name}']:.3f}" if found else "-" for name in SHOWN]
        lines.append(
            f"{system:<{label}}"
            + "".join(f"  {cell:>{len(title)}}" for cell, title in zip(cells, titles, strict=True))
        )
    return "\n".join(lines) + "\n"
