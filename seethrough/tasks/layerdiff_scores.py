"""What a network of LayerDiff makes of held-out samples during training: measures of layers.

All is denoised from the noise of `fixed_draws`: values of different steps differ by the network
alone.
"""

from collections.abc import Sequence
from typing import Any

import torch

from seethrough.inference.composite import quantize
from seethrough.metrics.layers import FALSE_AREA, score_layer
from seethrough.metrics.overlap import layer_overlap
from seethrough.metrics.pictures import LEAST_SIDE, picture_scores
from seethrough.tasks.layerdiff_prediction import (
    Network,
    predict_layers,
    shown_item,
    true_layer,
)

MEASURED = 4
"""Held-out samples whose layers a validation denoises."""


@torch.no_grad()
def measure_layers(task: Any, networks: Sequence[Network]) -> dict[str, float]:
    """The means over layers, as `seethrough.metrics` measures them, of the first samples.

    They are measured as the task cuts them out. SSIM and MS-SSIM are of layers on white, and left
    out where pictures are too small for them.
    """
    values: dict[str, list[float]] = {}
    for row in range(min(MEASURED, len(task.held_out))):
        for network, draw in zip(networks, task.fixed_draws("layers", row, row), strict=True):
            item = shown_item(task, task.held_out, draw)
            captions = item.get("captions") or [item["caption"]]
            predicted = predict_layers(task, item, captions, network, absent=True)
            for name, layer in zip(item["frames"], predicted, strict=True):
                true = None if name is None else true_layer(item, name)
                for measure, value in _scores(layer, true).items():
                    values.setdefault(f"layers/{measure}", []).append(value)
    return {measure: sum(known) / len(known) for measure, known in values.items()}


def _scores(predicted: torch.Tensor, true: torch.Tensor | None) -> dict[str, float]:
    """Measures of a layer, (4, T, T) RGBA in [0, 1]; None of a tag that the sample lacks."""
    found = quantize(predicted.permute(1, 2, 0).float().numpy())
    if true is None:
        return {"false_layers": float((found[..., 3] > 127).mean() > FALSE_AREA)}
    wanted = quantize(true.permute(1, 2, 0).numpy())
    scores = score_layer(found, wanted) | layer_overlap(found, wanted)
    if min(true.shape[-2:]) >= LEAST_SIDE:
        on_white = (layer[None, :3] * layer[3:] + 1 - layer[3:] for layer in (predicted, true))
        scores |= {name: value.item() for name, value in picture_scores(*on_white).items()}
    return scores
