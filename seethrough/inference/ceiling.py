"""What the autoencoder alone loses: true layers through latents and back, in the same two passes.

No diffusion model over these latents can do better than this, short of luck.
"""

import numpy as np
import torch

from seethrough.data.crops import fit_layer
from seethrough.data.layout import Box, Sample
from seethrough.data.padding import bleed
from seethrough.data.tags import BODY_GROUP, HEAD, HEAD_GROUP
from seethrough.inference.composite import Image8
from seethrough.inference.decompose import (
    DecomposeOptions,
    LayerDiff,
    body_crop,
    decode_layers,
    paste_layers,
)
from seethrough.inference.head_crop import Square, head_box, head_rect


def reconstruct_layers(
    models: LayerDiff, sample: Sample, options: DecomposeOptions
) -> dict[str, Image8]:
    """The layers of a sample, encoded and decoded, on the canvas: (R, R, 4) straight RGBA by tag.

    Layers of the head group are cut to the true head first, as the second pass would see them.
    """
    source = sample.page()
    crop = body_crop(source, options)
    body = _through_latents(models, sample, BODY_GROUP, crop, options)
    head_crop = crop
    if options.head_pass == "crop" and HEAD in sample.boxes:
        canvas = Square(source.shape[1], source.shape[0], options.resolution)
        whole = (0, 0, source.shape[1], source.shape[0])
        head = fit_layer(
            sample.layer(HEAD), sample.boxes[HEAD], whole, options.resolution, flip=False
        )
        rect = head_rect(head[..., 3], options.head_threshold)
        if rect is not None:
            found = head_box(rect, canvas, options.head_margin, options.head_margin_below)
            head_crop = found or crop
    head_layers = _through_latents(models, sample, HEAD_GROUP, head_crop, options)
    result: dict[str, Image8] = {}
    for layers, box in ((body, crop), (head_layers, head_crop)):
        placed = paste_layers(list(layers.values()), box, source, options.resolution)
        result.update(zip(layers, placed, strict=True))
    return result


@torch.no_grad()
def _through_latents(
    models: LayerDiff, sample: Sample, tags: tuple[str, ...], box: Box, options: DecomposeOptions
) -> dict[str, Image8]:
    present = [tag for tag in tags if tag in sample.boxes]
    if not present:
        return {}
    layers = [
        bleed(fit_layer(sample.layer(tag), sample.boxes[tag], box, options.resolution, flip=False))
        for tag in present
    ]
    rgba = torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).float() / 255
    latents = models.trans_vae.encode(models.vae, rgba[:, [3, 0, 1, 2]])
    decoded = decode_layers(models, latents, None, options)
    return dict(zip(present, decoded, strict=True))
