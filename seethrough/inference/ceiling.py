"""What the autoencoder alone loses: true layers through latents and back, in the same passes.

No diffusion model over these latents can do better than this, short of luck.
"""

import numpy as np
import torch

from seethrough.data.crops import fit_layer
from seethrough.data.layout import Box, Sample
from seethrough.data.padding import bleed
from seethrough.data.tags import HEAD
from seethrough.inference.composite import Image8
from seethrough.inference.decompose import (
    DecomposeOptions,
    LayerDiff,
    body_crop,
    decode_layers,
    find_head,
    paste_layers,
)


def reconstruct_layers(
    models: LayerDiff, sample: Sample, options: DecomposeOptions
) -> dict[str, Image8]:
    """The layers of a sample, encoded and decoded, on the canvas: (R, R, 4) straight RGBA by tag.

    Layers of a head pass are cut to the true head first, as that pass would see them.
    """
    source = sample.page()
    crop = body_crop(source, options)
    crops = (crop, _head_crop(sample, source, options) or crop)
    result: dict[str, Image8] = {}
    for tags, box in zip(models.flow.groups, crops, strict=False):
        layers = _through_latents(models, sample, tags, box, options)
        placed = paste_layers(list(layers.values()), box, source, options.resolution)
        result.update(zip(layers, placed, strict=True))
    return result


def _head_crop(sample: Sample, source: Image8, options: DecomposeOptions) -> Box | None:
    if options.head_pass != "crop" or HEAD not in sample.boxes:
        return None
    whole = (0, 0, source.shape[1], source.shape[0])
    head = fit_layer(sample.layer(HEAD), sample.boxes[HEAD], whole, options.resolution, flip=False)
    return find_head(head, source, options)


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
    chunks = rgba[:, [3, 0, 1, 2]].split(options.decode_batch)
    latents = torch.cat([models.trans_vae.encode(models.vae, chunk) for chunk in chunks])
    decoded = decode_layers(models, latents, None, options)
    return dict(zip(present, decoded, strict=True))
