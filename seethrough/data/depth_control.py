"""Depth of pages, and of single layers with a control: what is seen of a layer on the page.

A layer is drawn whole, the page shows a part of it. The control has the depth of that part; the
depth of all of the layer is to be told. What is seen follows from the levels: a pixel shows a
layer where the layer's level is the page's, as no two drawables that overlap share one.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from seethrough.data.depth import DepthDataset2D, DepthItem, depth_mask, depth_of
from seethrough.data.draws import Draw
from seethrough.data.items import PAGE, Crop
from seethrough.data.layout import check_tag

CONTROL_CHANNELS = 2
"""The nearness of what is seen, 0 elsewhere, and whether it is seen."""


def nearness(depth: Tensor) -> Tensor:
    """Turn depth in [-1, 1], near -1, to how near it is: the page's nearest 1, the background 0."""
    return (1 - depth) / 2


@attrs.define(kw_only=True, slots=False, eq=False)
class ControlledDepthDataset(DepthDataset2D):
    """Pages without a control, and layers with theirs: `dataset[draw]`.

    An item holds `picture`, (4, T, T) uint8 ARGB, of the page with the character's alpha or of a
    layer; `depth`, (1, T, T) float32 in [-1, 1]; `mask`, (1, T, T) bool, as `depth_mask`, never
    empty; `control`, (2, T, T) float32, as `CONTROL_CHANNELS` says, all 0 for a page; `layer`, the
    layer's tag, None for a page; `name` of the sample; and `draw`. A layer is cut to its own box.
    One whose depth has a single level gives the page.
    """

    control_probability: float = 0.0
    """Probability that an item is a layer."""
    tags: Sequence[str] = ()
    """Layers to choose from."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for tag in self.tags:
            check_tag(tag, "tags")

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        chance, choice = draw.numpy("control").random(2).tolist()
        found = self._layer(draw, choice) if chance < self.control_probability else None
        if found is not None:
            return found
        item, pictures = self.shown(draw)
        return {
            "draw": draw,
            **item.text,
            "layer": None,
            "picture": pictures["page"],
            "depth": pictures["depth"],
            "mask": pictures["mask"],
            "control": torch.zeros(CONTROL_CHANNELS, self.target_size, self.target_size),
        }

    def _layer(self, draw: Draw, choice: float) -> dict[str, Any] | None:
        """The layer at `choice`, in [0, 1), of those that the sample has, if it has depth."""
        page_item = self.item(draw)
        sample = page_item.sample
        tags = [tag for tag in self.tags if tag in sample.boxes]
        if not tags:
            return None
        tag = tags[int(choice * len(tags))]
        flip = page_item.crop.flip  # pyright: ignore[reportAttributeAccessIssue]
        item: DepthItem = attrs.evolve(
            page_item, crop=Crop(sample.boxes[tag], flip), frames=(tag,), conditions=()
        )
        picture, depth = item.picture(tag), item.picture(depth_of(tag))
        mask = depth_mask(picture, depth)
        if not mask.any() or depth[mask].unique().numel() == 1:
            return None
        seen = mask & (depth == item.picture(depth_of(PAGE)))
        return {
            "draw": draw,
            **item.text,
            "layer": tag,
            "picture": picture,
            "depth": depth,
            "mask": mask,
            "control": torch.cat([nearness(depth) * seen, seen.float()]),
        }
