"""What a network makes of layers while LayerDiff trains: for pictures, and to measure."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from seethrough.data.draws import Draw
from seethrough.inference.sampling import Solver, sample_latents
from seethrough.tasks.datasets import readable
from seethrough.tasks.latents import PictureItems
from seethrough.tasks.task import Batch

STEPS = 25
"""Denoising steps, as published."""

Network: TypeAlias = Callable[[Tensor, Tensor, Tensor, dict[str, Tensor]], Tensor]
"""Noisy latents with conditions (1, F, (1 + K) * C, h, w), timesteps (1,), hidden states and added
conditions of the captions -> the network's prediction (1, F, C, h, w)."""


def shown_item(task: Any, dataset: Any, draw: Draw) -> Batch:
    """An item of a task's dataset with all its pictures."""
    return readable(PictureItems(dataset, None), draw, task.stage.data, task.context)


def true_layer(item: Batch, name: str) -> Tensor:
    """A picture of an item, (4, T, T) RGBA in [0, 1]."""
    return item["pictures"][name][[1, 2, 3, 0]] / 255


@torch.no_grad()
def predict_layers(
    task: Any, item: Batch, captions: Sequence[str], network: Network, absent: bool = False
) -> list[Tensor]:
    """Denoise an item's frames; of those that its sample has, (4, T, T) RGBA in [0, 1].

    With `absent` of the others too.
    """
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
    wanted = [place for place, name in enumerate(item["frames"]) if absent or name is not None]
    # One at a time: the pixel decoder works at full size.
    layers = [latents[:, place] / encoder.scale for place in wanted]
    with torch.autocast(device.type, enabled=False):
        return [task.transparent_vae.decode(task.vae, layer)[0].cpu() for layer in layers]
