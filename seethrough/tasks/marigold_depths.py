"""What a network of Marigold makes of samples during training: measures and pictures of depth.

All is predicted from the noise of `fixed_draws`: values and pictures of different steps differ by
the network alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seethrough.data.depth import depth_mask
from seethrough.inference.depth_picture import depth_picture
from seethrough.inference.grid import picture_grid
from seethrough.inference.marigold import decode_depth, denoise, start_latents
from seethrough.metrics.depth import DepthMetrics, align_least_squares
from seethrough.tasks.transfer import on_device

MEASURED = 16
"""Held-out samples in a validation of depth."""

SHOWN = 8
"""Pages in a 2D picture, as published."""

SEARCHED = 16
"""Samples among which a 3D picture looks for one that has a layer."""


@attrs.frozen
class Scene:
    """The frames of one item, as their depth is measured, on one device."""

    names: Sequence[str]
    argb: Tensor
    """(F, 4, T, T) uint8, straight alpha."""
    true: Tensor
    """(F, 1, T, T) in [-1, 1], near -1."""
    places: Sequence[int]
    """Places of these frames among those that the network sees."""
    latents: Sequence[int]
    """Shape (frames, C, h, w) of the depth latents that the network sees."""
    predict: Callable[[Tensor, int], Tensor]
    """Noisy latents (frames, C, h, w) and a timestep -> the network's prediction."""

    @property
    def mask(self) -> Tensor:
        """(F, 1, T, T) bool: the pixels that count."""
        return depth_mask(self.argb, self.true)


Drawn: TypeAlias = tuple[Scene, np.random.Generator]
"""A scene, and what the noise that its depth is predicted from follows from."""


@torch.no_grad()
def predicted(task: Any, scene: Scene, noise: np.random.Generator) -> Tensor:
    """Depth of the scene's frames, (F, 1, T, T) float32 in [0, 1], near 0."""
    device = scene.true.device
    sampler = task.stage.sampler
    start = on_device(start_latents(noise, scene.latents, sampler.noise), device)
    latents = denoise(scene.predict, task.scheduler, sampler.steps, start)[list(scene.places)]
    with torch.autocast(device.type, enabled=False):
        return decode_depth(task.encoder.vae, latents, batch=1)[:, None]


def measure(task: Any, scenes: Iterable[Drawn]) -> dict[str, float]:
    """The measures of depth, averaged over scenes, for each way of alignment."""
    # One process validates: the others wouldn't come to a gathering.
    kinds = {
        "least_squares": DepthMetrics("least_squares", sync_on_compute=False),
        "median": DepthMetrics("median", sync_on_compute=False),
    }
    for scene, noise in scenes:
        found = predicted(task, scene, noise).cpu()
        for metrics in kinds.values():
            metrics.update(found, scene.true.cpu(), scene.mask.cpu())
    return {
        f"depth/{kind}/{measure}": value
        for kind, metrics in kinds.items()
        if metrics.count
        for measure, value in metrics.compute().items()
    }


def rows(task: Any, scenes: Iterable[Drawn], columns: int) -> Image.Image:
    """Of each frame the picture, its true depth, and the predicted one in the scene's scale."""
    cells: list[Tensor] = []
    labels: list[str] = []
    for scene, noise in scenes:
        mask, true = scene.mask.cpu(), scene.true.cpu()
        found = predicted(task, scene, noise).cpu()
        if mask.any():
            found = align_least_squares(found, true, mask)(found)
        for place, name in enumerate(scene.names):
            shown = [depth_colours(depth[place], mask[place]) for depth in (true, found)]
            cells += [scene.argb[place, [1, 2, 3, 0]].cpu() / 255, *shown]
            labels += [name, f"{name}: true", f"{name}: predicted"]
    return picture_grid(cells, columns, labels)


def depth_colours(depth: Tensor, mask: Tensor) -> Tensor:
    """The colours of depth, grey outside of the mask.

    (1, T, T) in [-1, 1] and (1, T, T) bool -> (4, T, T) RGBA in [0, 1].
    """
    rgb = depth_picture(depth[0].float().numpy(), mask[0].numpy(), span=(-1.0, 1.0))
    colour = torch.from_numpy(rgb).permute(2, 0, 1) / 255
    return torch.cat([colour, torch.ones_like(colour[:1])])
