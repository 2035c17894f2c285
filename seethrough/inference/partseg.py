"""Use a trained model of body parts: a page of any size in, a mask for each part out."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seethrough.data.partseg import WHOLE
from seethrough.inference.composite import Image8
from seethrough.models.semantic_sam import SemanticSam, normalised
from seethrough.models.semantic_sam_weights import load_semantic_sam, read_tags

THRESHOLD = 0.0
"""A part is where its logit is above this."""


@attrs.frozen(eq=False)
class PartSegModel:
    """A model on its device, and what its classes are called."""

    network: SemanticSam
    tags: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device


def load_partseg(path: str | Path, device: torch.device, dtype: torch.dtype) -> PartSegModel:
    """A model from a published file or a folder of ours, on a device.

    Raises:
        InputError: when it can't be read, is refused, parts of it are missing, or its classes have
            no names.
    """
    network = load_semantic_sam(path, dtype)
    return PartSegModel(network.to(device), read_tags(path, network))


@torch.no_grad()
def predict_parts(model: PartSegModel, page: Image8) -> npt.NDArray[np.bool_]:
    """Find the parts of a page (H, W, 3) uint8 RGB: (C, H, W) bool in the order of its tags.

    The page is padded with black to a square with itself in the middle and brought to the
    network's size, as in training. Logits are brought to the page's size at once, bilinearly; the
    published program goes by way of the network's.
    """
    picture = torch.from_numpy(WHOLE.picture(page, model.network.img_size))[None]
    dtype = next(model.network.parameters()).dtype
    logits, _ = model.network(normalised(picture.to(model.device)).to(dtype))
    return page_masks(logits[0], (page.shape[0], page.shape[1])).cpu().numpy()


def page_masks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (C, h, h) of a page's square as masks of the page, (C, *size) bool."""
    height, width = size
    side = max(size)
    top, left = (side - height) // 2, (side - width) // 2
    masks = torch.empty(len(logits), height, width, dtype=torch.bool, device=logits.device)
    # One at a time: all of them in float32 would fill the memory for a large page.
    for plane, logit in enumerate(logits.float()):
        large = F.interpolate(logit[None, None], (side, side), mode="bilinear")[0, 0]
        masks[plane] = large[top : top + height, left : left + width] > THRESHOLD
    return masks
