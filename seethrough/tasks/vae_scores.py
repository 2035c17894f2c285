"""The stage that measures the autoencoders of a rehearsal before and after their training."""

from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seethrough.data.draws import Draw
from seethrough.engine.files import write_json
from seethrough.models.checkpoints import load_model, vae_folder
from seethrough.recipes.layer_data import LayerData
from seethrough.recipes.vae_scores import VaeScores
from seethrough.tasks.datasets import layer_dataset
from seethrough.tasks.latents import load_transparent_vae, network_input
from seethrough.tasks.task import StageContext, StageResult
from seethrough.tasks.transparent_vae import alpha_errors

OF_EACH = 4
"""Layers of a sample that are drawn."""


def vae_scores_stage(stage: VaeScores, context: StageContext) -> StageResult:
    """Measure both on the same layers, and print the means side by side."""
    layers = _layers(stage, context)
    scores = {
        "before": _scores(
            layers, context.path(stage.vae_before), context.path(stage.transparent_vae_before)
        ),
        "after": _scores(layers, context.path(stage.vae), context.path(stage.transparent_vae)),
    }
    before, after = scores.values()
    share = after["alpha_mae"] / before["alpha_mae"]
    reached = share <= 1 - stage.margin and after["alpha_iou"] >= before["alpha_iou"]
    file = context.directory / "scores.json"
    write_json(file, scores)
    rows = [
        f"{name:8}" + "".join(f"{values[key]:>12.4f}" for key in before)
        for name, values in scores.items()
    ]
    context.report(
        "\n".join([f"{f'{len(layers)} layers':8}" + "".join(f"{key:>12}" for key in before), *rows])
        + f"\n{context.name}: alpha_mae is {share:.2f} of what it was, {1 - stage.margin:.2f} to "
        f"reach and alpha_iou not to fall: {'reached' if reached else 'NOT reached'}"
    )
    metrics = {
        f"{key}_{name}": value for name, values in scores.items() for key, value in values.items()
    }
    return StageResult({"scores": file}, {**metrics, "reached": float(reached)})


def _layers(stage: VaeScores, context: StageContext) -> list[torch.Tensor]:
    """Layers in their own boxes, (1, 4, T, T) ARGB in [0, 1], at fixed draws."""
    data = LayerData(
        sources=((stage.pages, 1),),
        target_size=stage.target_size,
        random_flip=0.0,
        random_pad=0.0,
        size_groups=(),
    )
    dataset = layer_dataset(data, context)
    count = min(stage.layers, OF_EACH * len(dataset))
    draws = [
        Draw(seed=0, stage="scores", step=0, index=index, sample=index % len(dataset))
        for index in range(count)
    ]
    return [network_input(dataset[draw]["layer"][None].to(context.device)) for draw in draws]


@torch.no_grad()
def _scores(layers: list[torch.Tensor], vae_path: Path, other_path: Path) -> dict[str, float]:
    """Mean errors over the layers that they can be told of."""
    device = layers[0].device
    vae = load_model(AutoencoderKL, vae_folder(vae_path), torch.float32)
    transparent_vae = load_transparent_vae(other_path)
    torch.nn.Module.to(vae, device)
    torch.nn.Module.to(transparent_vae, device)
    found: dict[str, list[float]] = {}
    for layer in layers:
        rgba = transparent_vae.decode(vae, transparent_vae.encode(vae, layer))
        errors = alpha_errors(layer, rgba) | {"color_mae": _color_error(layer, rgba)}
        for name, value in errors.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _color_error(argb: torch.Tensor, rgba: torch.Tensor) -> float:
    """Mean absolute error of a layer's colour where it is, weighed by its alpha."""
    alpha = argb[:, :1]
    error = (abs(rgba[:, :3] - argb[:, 1:]) * alpha).sum() / 3
    return float(error / alpha.sum().clamp_min(1e-6))
