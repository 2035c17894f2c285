"""The datasets of LayerDiff: one layer of a character (2D), or a whole group of layers (3D).

Both are indexed by a draw, and every choice an item makes (tag, crop, mirroring) is a function
of it. Pictures are ARGB float32 in [0, 1], straight alpha, alpha first: what the transparent VAE
takes.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seethrough.data.crops import Box, alpha_box, enlarge, fit_layer, fit_page, union_box
from seethrough.data.draws import Draw
from seethrough.data.layout import LayerAlpha, Sample, check_tag, read_sample
from seethrough.data.padding import bleed
from seethrough.data.sample_list import read_sources
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.errors import InputError

UNTOLD_WORDS = frozenset(
    {
        "1girl",
        "smile",
        "simple_background",
        "white_background",
        "solo",
        "closed_mouth",
        "looking_at_viewer",
        "standing",
        "full_body",
        "virtual_youtuber",
        "tachi-e",
        "elf",
        "transparent_background",
        "blush",
        "straight-on",
        "looking_to_the_side",
        "expressionless",
        "holding",
    }
)
"""Words left out of a caption file: they say nothing of a layer."""

PAGE = "page"
"""Name of the page among an item's pictures."""

CHARACTER = ""
"""Name of the whole character: the page with the character's alpha."""

CropTo = Literal["layers", "character"]

Fractions = tuple[float, float, float, float]


@attrs.frozen
class Crop:
    """Where an item's pictures are cut, and whether they are mirrored."""

    box: Box
    """The box on the page."""
    flip: bool
    """Whether the pictures are mirrored left to right."""


@attrs.frozen
class CharacterCrop:
    """A crop around the whole character, whose box only the decoded page tells."""

    enlargement: Fractions | None
    """How far the box of the character's alpha is enlarged, as `enlarge` takes it."""
    flip: bool
    """Whether the pictures are mirrored left to right."""

    def on(self, page: np.ndarray) -> Crop:
        """Find the box on a page, (H, W, 4) RGBA."""
        box = alpha_box(page[..., 3])
        if self.enlargement is not None:
            box = enlarge(box, page.shape[0], page.shape[1], self.enlargement)
        return Crop(box, self.flip)


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDataset(Dataset[dict[str, Any]], ABC):
    """What both datasets share: the samples, the crop, and the way to pictures.

    Making one reads the sample lists and raises InputError as `read_sources`; no sample is
    opened. An item raises InputError, naming the file, if its sample can't be read.
    """

    sources: Sequence[tuple[str | Path, int]]
    """Sample lists and their rates: a rate repeats its list."""
    target_size: int
    """Side T of the pictures in pixels."""
    random_flip: float = 0.0
    """Probability of mirroring left to right."""
    random_pad_prob: float = 0.0
    """Probability of a crop enlarged at random, up to the whole page."""
    crop_to: CropTo = "layers"
    """Whether the crop is a box of the item's layers, or of all the character's."""
    layer_alpha: LayerAlpha = "straight"
    """How layers are stored where a sample's annotation doesn't tell."""
    bleeding: bool = True
    """Whether the colour of transparent pixels is filled here; if not, the task may do so on its
    device with `bleed_batch`."""
    page_background: bool = True
    """Whether the page keeps its background under an alpha of 1, as published. Without, its alpha
    is the character's and the colour of transparent pixels is as in a layer."""

    _pages: list[Path] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pages = read_sources(self.sources)

    def __len__(self) -> int:
        return len(self._pages)

    def sample(self, row: int) -> Sample:
        """Read the annotation of a row."""
        return read_sample(self._pages[row], self.layer_alpha)

    @abstractmethod
    def describe(self, draw: Draw) -> dict[str, Any]:
        """An item without its pictures: what is known before anything is decoded.

        `frames` names the picture of each frame, None where the sample has no such layer.
        """

    @abstractmethod
    def crop(self, draw: Draw) -> "Crop | CharacterCrop":
        """Where an item's pictures are cut."""

    @abstractmethod
    def captions(self) -> list[str]:
        """List every caption that an item may have, sorted."""

    def picture(self, draw: Draw, name: str) -> Tensor:
        """Decode one picture of an item, (4, T, T) float32 ARGB in [0, 1].

        `name` is a tag, CHARACTER or PAGE.
        """
        return _argb(self._picture(self.sample(draw.sample), name, self.crop(draw)))

    def picture_key(self, draw: Draw, name: str) -> str:
        """Everything but the sample's bytes that a picture is a function of, as text."""
        options = (self.target_size, self.bleeding, self.page_background)
        return f"{name!r} {self.crop(draw)!r} {options!r}"

    def _picture(self, sample: Sample, name: str, crop: "Crop | CharacterCrop") -> np.ndarray:
        if name not in (PAGE, CHARACTER):
            assert isinstance(crop, Crop)
            return self._layer(sample.layer(name), sample.boxes[name], crop)
        page = sample.page()
        if isinstance(crop, CharacterCrop):
            crop = crop.on(page)
        if name == PAGE:
            return self._page(page, crop)
        return self._layer(page, (0, 0, page.shape[1], page.shape[0]), crop)

    def _flip(self, draw: Draw) -> bool:
        return bool(draw.numpy("flip").random() < self.random_flip)

    def _enlargement(self, draw: Draw) -> Fractions | None:
        chance, left, top, right, bottom = draw.numpy("enlarge").random(5).tolist()
        return (left, top, right, bottom) if chance < self.random_pad_prob else None

    def _crop(self, box: Box, size: tuple[int, int], draw: Draw) -> Crop:
        enlargement = self._enlargement(draw)
        if enlargement is not None:
            box = enlarge(box, *size, enlargement)
        return Crop(box, self._flip(draw))

    def _layer(self, layer: np.ndarray, at: Box, crop: Crop) -> np.ndarray:
        """Cut and fill: (h, w, 4) uint8 RGBA that lies at a box -> (T, T, 4) uint8 RGBA."""
        fitted = fit_layer(layer, at, crop.box, self.target_size, crop.flip)
        return bleed(fitted) if self.bleeding else fitted

    def _page(self, page: np.ndarray, crop: Crop) -> np.ndarray:
        if not self.page_background:
            return self._layer(page, (0, 0, page.shape[1], page.shape[0]), crop)
        fitted = fit_page(page, crop.box, self.target_size, crop.flip)
        fitted[..., 3] = 255
        return fitted


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDiff2DDataset(LayerDataset):
    """One layer, its caption and the page: `dataset[draw]`.

    An item holds `layer` and `page`, (4, T, T) float32 ARGB in [0, 1]; `caption`; `name`, that of
    the layer's file without suffix; and `draw`. The layer is one of the sample's, chosen
    uniformly; the crop is its own box or, as likely, the union box of each size group that has
    its tag. A sample without a layer to choose gives the whole character: `layer` is then the
    page with the character's alpha.
    """

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

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for tags in (self.tag_list, *self.target_size_groups):
            for tag in tags:
                check_tag(tag, "tag_list or target_size_groups")

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item = self.describe(draw)
        (name,) = item.pop("frames")
        return {**item, "layer": self.picture(draw, name), "page": self.picture(draw, PAGE)}

    def describe(self, draw: Draw) -> dict[str, Any]:
        """An item without its pictures: `draw`, `frames` (one), `caption` and `name`."""
        sample = self.sample(draw.sample)
        tag, _ = self._choose(sample, draw)
        return {
            "draw": draw,
            "frames": [tag or CHARACTER],
            "caption": self._caption(sample, tag),
            "name": f"{sample.name}_{tag}" if tag else sample.name,
        }

    def crop(self, draw: Draw) -> Crop | CharacterCrop:
        """Where the layer and the page are cut."""
        return self._choose(self.sample(draw.sample), draw)[1]

    def captions(self) -> list[str]:
        """List every caption that an item may have, sorted; reads the caption files."""
        found = {*self._tags(), LEGWEAR_WITH_FOOTWEAR, ""}
        if self.caption_files:
            for page in set(self._pages):
                sample = read_sample(page, self.layer_alpha)
                found.update(self._caption(sample, tag) for tag in ("", *self._tags(sample)))
        return sorted(found)

    def _tags(self, sample: Sample | None = None) -> list[str]:
        """List the tags to choose from, of all or of one sample, in the order of `tag_list`."""
        tags = [tag for tag in self.tag_list if self.load_objects or tag != "objects"]
        return tags if sample is None else [tag for tag in tags if tag in sample.boxes]

    def _choose(self, sample: Sample, draw: Draw) -> tuple[str, Crop | CharacterCrop]:
        tags = self._tags(sample)
        if sample.size is None or not tags:
            return "", CharacterCrop(self._enlargement(draw), self._flip(draw))
        tag = tags[draw.numpy("tag").integers(len(tags))]
        if self.crop_to == "character":
            return tag, self._crop(_union(sample, sample.size, sample.boxes), sample.size, draw)
        groups = [group for group in self.target_size_groups if tag in group]
        boxes = [_union(sample, sample.size, group) for group in groups]
        if self.own_box or not boxes:
            boxes.insert(0, sample.boxes[tag])
        box = boxes[draw.numpy("crop box").integers(len(boxes))]
        return tag, self._crop(box, sample.size, draw)

    def _caption(self, sample: Sample, tag: str) -> str:
        path = sample.path(f"_{tag}.txt" if tag else ".txt")
        if self.caption_files and path.is_file():
            try:
                return filter_caption(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: the caption can't be read: {error}") from error
        return tag_caption(sample, tag)


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDiff3DDataset(LayerDataset):
    """All layers of one group of tags, and the page: `dataset[draw]`.

    An item holds `layers`, (F, 4, T, T) float32 ARGB in [0, 1] in the order of the group's tags,
    zeros where the sample has no such layer; `present` (F,) bool; `captions`, F of them; `page`
    (4, T, T); `group_index`; `name` of the sample; and `draw`. A sample without any layer of the
    group gives the whole page and F absent frames.

    The groups take turns: the p-th sample of the run, p = step * `global_batch` + index, has
    group p // `ngroup_iters` modulo the number of groups. Items of one micro-batch need the same
    group to be stacked, so `ngroup_iters` must be a multiple of its size.
    """

    groups: Sequence[Sequence[str]]
    """The tags of each group, one a frame."""
    global_batch: int
    """Samples of one optimizer step."""
    crop_tags: Sequence[Collection[str]] = ()
    """For each group the tags whose union box is the crop; by default the group's own."""
    ngroup_iters: int = 1
    """How many samples in a row have the same group."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.crop_tags and len(self.crop_tags) != len(self.groups):
            raise InputError(
                f"crop_tags has {len(self.crop_tags)} entries for {len(self.groups)} groups; give "
                "one for each group or none"
            )
        for tags in (*self.groups, *self.crop_tags):
            for tag in tags:
                check_tag(tag, "groups or crop_tags")

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        item = self.describe(draw)
        frames = item.pop("frames")
        # NumPy's zeros cost nothing until they are written: absent frames stay free.
        shape = (len(frames), 4, self.target_size, self.target_size)
        layers = torch.from_numpy(np.zeros(shape, np.float32))
        sample, crop = self.sample(draw.sample), self.crop(draw)
        for layer, name in zip(layers, frames, strict=True):
            if name is not None:
                _argb(self._picture(sample, name, crop), out=layer)
        present = torch.tensor([name is not None for name in frames])
        return {**item, "layers": layers, "page": self.picture(draw, PAGE), "present": present}

    def describe(self, draw: Draw) -> dict[str, Any]:
        """An item without its pictures: `draw`, `frames`, `captions`, `group_index`, `name`."""
        sample = self.sample(draw.sample)
        group_index = self.group(draw)
        tags = self.groups[group_index]
        return {
            "draw": draw,
            "frames": [tag if tag in sample.boxes else None for tag in tags],
            "captions": [tag_caption(sample, tag) for tag in tags],
            "group_index": group_index,
            "name": sample.name,
        }

    def crop(self, draw: Draw) -> Crop:
        """Where the layers and the page are cut."""
        sample = self.sample(draw.sample)
        if sample.size is None:
            raise InputError(
                f"{sample.path('_ann.json')}: no such file; a 3D sample needs its annotation"
            )
        if self.crop_to == "character":
            return self._crop(_union(sample, sample.size, sample.boxes), sample.size, draw)
        group = self.group(draw)
        tags = self.crop_tags[group] if self.crop_tags else self.groups[group]
        return self._crop(_union(sample, sample.size, tags), sample.size, draw)

    def captions(self) -> list[str]:
        """List every caption that an item may have, sorted."""
        return sorted({LEGWEAR_WITH_FOOTWEAR, *(tag for group in self.groups for tag in group)})

    def group(self, draw: Draw) -> int:
        """Tell the group of a draw."""
        position = draw.step * self.global_batch + draw.index
        return position // self.ngroup_iters % len(self.groups)


def tag_caption(sample: Sample, tag: str) -> str:
    """Return the caption a tag gets: its name; legwear without footwear names both."""
    if tag == "legwear" and "footwear" not in sample.boxes:
        return LEGWEAR_WITH_FOOTWEAR
    return tag


def filter_caption(text: str) -> str:
    """Take out of a comma-separated caption what says nothing of a layer; lower case."""
    words = [word.strip().lower() for word in text.split(",")]
    told = [word for word in words if word and word not in UNTOLD_WORDS]
    return ",".join(w for w in told if "commentary" not in w and "background" not in w)


def _union(sample: Sample, size: tuple[int, int], tags: Collection[str]) -> Box:
    return union_box((sample.boxes[tag] for tag in tags if tag in sample.boxes), *size)


def _argb(rgba: np.ndarray, out: Tensor | None = None) -> Tensor:
    """(H, W, 4) uint8 RGBA -> (4, H, W) float32 ARGB in [0, 1]."""
    if out is None:
        out = torch.empty(4, *rgba.shape[:2])
    planes = out.numpy()
    for plane, channel in enumerate((3, 0, 1, 2)):
        np.divide(rgba[..., channel], 255, out=planes[plane], dtype=np.float32)
    return out
