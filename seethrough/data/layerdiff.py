"""The datasets of LayerDiff: one layer of a character (2D), or a whole group of layers (3D).

Both are indexed by a draw, and every choice an item makes (tag, crop, mirroring) is a function
of it. Pictures are ARGB uint8, straight alpha, alpha first; the colour of transparent pixels is
not filled: whoever feeds a network does so on its device, with `bleed_batch`.
"""

import contextlib
from collections.abc import Collection, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch

from seethrough.data.captions import caption_file, caption_files, read_caption, tag_caption
from seethrough.data.draws import Draw
from seethrough.data.items import CHARACTER, PAGE, VISIBLE, CharacterCrop, Crop, Item
from seethrough.data.layout import Sample, check_tag
from seethrough.data.masks import mask_change
from seethrough.data.sample_dataset import GroupDataset, LayerDataset, layers_box
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.errors import InputError


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDiff2DDataset(LayerDataset):
    """One layer, its caption and the page: `dataset[draw]`.

    An item holds `layer` and `page`, (4, T, T) uint8 ARGB; `caption`; `name`, that of the layer's
    file without suffix; and `draw`. The layer is one of the sample's, chosen uniformly; the crop
    is its own box or, as likely, the union box of each size group that has its tag. A sample
    without a layer to choose gives the whole character: `layer` is then the page with the
    character's alpha.

    With `mask_condition` the page shows the character alone, with an alpha of 0 and 1, and
    `visible`, likewise (4, T, T), shows what of the layer is seen on the page; of a whole
    character it is the page.
    """

    page_alpha: Literal["full", "character"] = "full"
    """Whether the page has an alpha of 1 and its background, as published, or the character's."""
    target_size_groups: Sequence[Collection[str]] = ()
    """Groups of tags whose union boxes are further crops."""
    own_box: bool = True
    """Whether a layer's own box is a crop; a tag of no group has no other."""
    tag_list: Collection[str] = TRAINING_TAGS
    """The tags to choose from."""
    load_objects: bool = True
    """Whether `objects` is among them."""
    caption_files: bool = True
    """Whether a caption is read from the sample's text file where there is one."""
    mask_condition: bool = False
    """Whether what is seen of the layer is a condition beside the page."""
    random_mask: float = 0.0
    """With `mask_condition`, of whole characters: probability of a page whose mask is changed, as
    `mask_change` chooses. The layer stays whole."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for tags in (self.tag_list, *self.target_size_groups):
            for tag in tags:
                check_tag(tag, "tag_list or target_size_groups")

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item = self.item(draw)
        (name,) = item.frames
        assert name is not None
        pictures = {"layer": item.picture(name), "page": item.picture(PAGE)}
        if self.mask_condition:
            pictures["visible"] = item.picture(item.conditions[1])
        return {"draw": draw, **item.text, **pictures}

    def item(self, draw: Draw) -> Item:
        """Open a draw's sample and choose a tag and a crop; its text is `caption` and `name`."""
        sample = self.sample(draw.sample)
        tag, crop = self._choose(sample, draw)
        masked = self.mask_condition
        return Item(
            draw=draw,
            sample=sample,
            crop=crop,
            frames=(tag,),
            # Of a whole character the page shows what is seen: it is both conditions.
            conditions=(PAGE, VISIBLE if tag else PAGE) if masked else (PAGE,),
            text={
                "caption": self._caption(sample, tag),
                "name": f"{sample.name}_{tag}" if tag else sample.name,
            },
            side=self.target_size,
            page_alpha="mask" if masked else self.page_alpha,
            mask_change=mask_change(draw, self.random_mask) if masked and not tag else None,
        )

    def captions(self) -> list[str]:
        """List every caption that an item may have, sorted; reads the caption files.

        One that can't be read is left out here: the item that needs it raises InputError.
        """
        found = {*self._tags(), LEGWEAR_WITH_FOOTWEAR, ""}
        if self.caption_files:
            for path in caption_files(self._pages, self._tags()):
                with contextlib.suppress(InputError):
                    found.add(read_caption(path) or "")
        return sorted(found)

    def _tags(self) -> list[str]:
        return [tag for tag in self.tag_list if self.load_objects or tag != "objects"]

    def _choose(self, sample: Sample, draw: Draw) -> tuple[str, Crop | CharacterCrop]:
        tags = [tag for tag in self._tags() if tag in sample.boxes]
        if sample.size is None or not tags:
            return CHARACTER, CharacterCrop(self._enlargement(draw), self._flip(draw))
        tag = tags[draw.numpy("tag").integers(len(tags))]
        if self.crop_to == "character":
            return tag, self._crop(layers_box(sample, sample.size, sample.boxes), sample.size, draw)
        groups = [group for group in self.target_size_groups if tag in group]
        boxes = [layers_box(sample, sample.size, group) for group in groups]
        if self.own_box or not boxes:
            boxes.insert(0, sample.boxes[tag])
        box = boxes[draw.numpy("crop box").integers(len(boxes))]
        return tag, self._crop(box, sample.size, draw)

    def _caption(self, sample: Sample, tag: str) -> str:
        written = read_caption(caption_file(sample.page_path, tag)) if self.caption_files else None
        return tag_caption(sample, tag) if written is None else written


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDiff3DDataset(GroupDataset):
    """All layers of one group of tags, and the page: `dataset[draw]`.

    An item holds `layers`, (F, 4, T, T) uint8 ARGB in the order of the group's tags, zeros where
    the sample has no such layer; `present` (F,) bool; `captions`, F of them; `page` (4, T, T);
    `group_index`; `name` of the sample; and `draw`. A sample without any layer of the group gives
    the whole page and F absent frames.
    """

    page_alpha: Literal["full", "character"] = "full"
    """Whether the page has an alpha of 1 and its background, as published, or the character's."""
    pad_frames: int = 0
    """Frames that a group has at least, absent ones behind its tags with the empty caption."""

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item = self.item(draw)
        # NumPy's zeros cost nothing until they are written: absent frames stay free.
        shape = (len(item.frames), 4, self.target_size, self.target_size)
        layers = torch.from_numpy(np.zeros(shape, np.uint8))
        for layer, name in zip(layers, item.frames, strict=True):
            if name is not None:
                layer.copy_(item.picture(name))
        present = torch.tensor([name is not None for name in item.frames])
        pictures = {"layers": layers, "page": item.picture(PAGE)}
        return {"draw": draw, **item.text, **pictures, "present": present}

    def item(self, draw: Draw) -> Item:
        """Open a draw's sample; its text is `captions`, `group_index` and `name`."""
        sample = self.sample(draw.sample)
        group_index = self.group(draw)
        tags = self.groups[group_index]
        padding = max(self.pad_frames - len(tags), 0)
        frames = [tag if tag in sample.boxes else None for tag in tags]
        captions = [tag_caption(sample, tag) for tag in tags]
        return Item(
            draw=draw,
            sample=sample,
            crop=self._group_crop(sample, group_index, draw),
            frames=(*frames, *[None] * padding),
            conditions=(PAGE,),
            text={
                "captions": [*captions, *[""] * padding],
                "group_index": group_index,
                "name": sample.name,
            },
            side=self.target_size,
            page_alpha=self.page_alpha,
        )

    def captions(self) -> list[str]:
        """List every caption that an item may have, sorted."""
        padding = {""} if any(len(group) < self.pad_frames for group in self.groups) else set()
        tags = (tag for group in self.groups for tag in group)
        return sorted({LEGWEAR_WITH_FOOTWEAR, *padding, *tags})
