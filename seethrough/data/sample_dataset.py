"""What datasets of characters share: their samples, and how pictures of them are cut out.

They are indexed by a draw, and every choice that an item makes is a function of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from torch.utils.data import Dataset

from seethrough.data.crops import Box, enlarge, union_box
from seethrough.data.draws import Draw
from seethrough.data.items import Crop, Fractions, Item
from seethrough.data.layout import LayerAlpha, Sample, check_tag, read_sample
from seethrough.data.merged import merged
from seethrough.data.sample_list import read_sources
from seethrough.errors import InputError

CropTo = Literal["layers", "character"]


@attrs.define(kw_only=True, slots=False, eq=False)
class SampleDataset(Dataset[dict[str, Any]], ABC):
    """The samples, and how their pictures are mirrored.

    Making one reads the sample lists and raises InputError as `read_sources`; no sample is
    opened. An item raises InputError, naming the file, if its sample can't be read.
    """

    sources: Sequence[tuple[str | Path, int]]
    """Sample lists and their rates: a rate repeats its list."""
    data_roots: Sequence[str] = ()
    """Folders in which relative entries of the lists are looked up, besides."""
    target_size: int
    """Side T of the pictures in pixels."""
    random_flip: float = 0.0
    """Probability of mirroring left to right."""
    layer_alpha: LayerAlpha = "straight"
    """How layers are stored where a sample's annotation doesn't tell."""

    _pages: list[Path] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pages = read_sources(self.sources, self.data_roots)

    def __len__(self) -> int:
        return len(self._pages)

    def page_path(self, row: int) -> Path:
        """Tell the page's file of a row."""
        return self._pages[row]

    def sample(self, row: int) -> Sample:
        """Read the annotation of a row; it has V2's layers too."""
        return merged(read_sample(self._pages[row], self.layer_alpha))

    @abstractmethod
    def item(self, draw: Draw) -> Item:
        """Open a draw's sample and choose from it; no picture is decoded."""

    def _flip(self, draw: Draw) -> bool:
        return bool(draw.numpy("flip").random() < self.random_flip)


@attrs.define(kw_only=True, slots=False, eq=False)
class LayerDataset(SampleDataset):
    """Pictures are cut to a box of layers, enlarged at random."""

    random_pad_prob: float = 0.0
    """Probability of a crop enlarged at random, up to the whole page."""
    crop_to: CropTo = "layers"
    """Whether the crop is a box of the item's layers, or of all the character's."""

    def _enlargement(self, draw: Draw) -> Fractions | None:
        chance, left, top, right, bottom = draw.numpy("enlarge").random(5).tolist()
        return (left, top, right, bottom) if chance < self.random_pad_prob else None

    def _crop(self, box: Box, size: tuple[int, int], draw: Draw) -> Crop:
        enlargement = self._enlargement(draw)
        if enlargement is not None:
            box = enlarge(box, *size, enlargement)
        return Crop(box, self._flip(draw))


@attrs.define(kw_only=True, slots=False, eq=False)
class GroupDataset(LayerDataset):
    """All layers of one group of tags at a time.

    The group is a function of the position in the run: with p = step * `global_batch` + index it
    is group p // `ngroup_iters` modulo the number of groups. Where `ngroup_iters` is a multiple of
    the micro-batch, all samples of one have the same group.
    """

    groups: Sequence[Sequence[str]]
    """The tags of each group, one a frame."""
    global_batch: int
    """Samples of one optimizer step."""
    crop_tags: Sequence[Collection[str]] = ()
    """For each group the tags whose union box is the crop; where there are none, or none for a
    group, its own without `crop_skip_tags`."""
    crop_skip_tags: Collection[str] = ()
    """Tags of groups that have no say in the crop."""
    ngroup_iters: int = 1
    """How many samples in a row have the same group."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.crop_tags and len(self.crop_tags) != len(self.groups):
            raise InputError(
                f"crop_tags has {len(self.crop_tags)} entries for {len(self.groups)} groups; give "
                "one for each group or none"
            )
        for tags in (*self.groups, *self.crop_tags, self.crop_skip_tags):
            for tag in tags:
                check_tag(tag, "groups, crop_tags or crop_skip_tags")

    def group(self, draw: Draw) -> int:
        """Tell the group of a draw."""
        position = draw.step * self.global_batch + draw.index
        return position // self.ngroup_iters % len(self.groups)

    def _group_crop(self, sample: Sample, group: int, draw: Draw) -> Crop:
        if sample.size is None:
            raise InputError(
                f"{sample.path('_ann.json')}: no such file; a 3D sample needs its annotation"
            )
        tags: Collection[str] = self.crop_tags[group] if self.crop_tags else ()
        if self.crop_to == "character":
            tags = sample.boxes
        elif not tags:
            tags = [tag for tag in self.groups[group] if tag not in self.crop_skip_tags]
        return self._crop(layers_box(sample, sample.size, tags), sample.size, draw)


def layers_box(sample: Sample, size: tuple[int, int], tags: Collection[str]) -> Box:
    """Return the union box of those layers that a sample has; the whole page if it has none."""
    return union_box((sample.boxes[tag] for tag in tags if tag in sample.boxes), *size)
