"""Samples of layered characters, as the stages train on them."""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from seethrough.data.tags import TAGS_V2, TRAINING_TAGS
from seethrough.recipe import REQUIRED, Execution, Fraction, PositiveInt, Source, recipe
from seethrough.recipe.errors import nearest
from seethrough.recipes.training import Data, DeepSpeed, Hardware, Schedule

HEAD_SIZE_GROUP = (*TRAINING_TAGS[:14], "neck", "neckwear")
BODY_SIZE_GROUP = (
    "topwear", "handwear", "bottomwear", "legwear", "footwear", "tail", "wings", "objects",
)  # fmt: skip

LayerAlpha: TypeAlias = Literal["straight", "premultiplied"]


@recipe
class PictureData(Data):
    """Square pictures of characters."""

    target_size: PositiveInt = 512
    """Side of the square picture in px, a multiple of 32."""

    random_flip: Fraction = 0.5
    """Probability of a horizontal flip of the layers and the page."""

    layer_alpha: LayerAlpha = "premultiplied"
    """How the colour of stored layers relates to alpha where a sample's annotation doesn't say:
    the published renderer writes it premultiplied."""

    validation: Execution[Source | None] = None
    """Sample list of held-out samples, which schedule.validate_every measures."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.target_size % 32:
            yield "target_size", f"{self.target_size} is no multiple of 32"


@recipe
class PageDepthData(PictureData):
    """Whole pages and their depth."""

    flip_horizontal: Fraction = 0.8
    """Probability that an item which random_flip chose is mirrored left to right."""

    flip_vertical: Fraction = 0.3
    """Probability that such an item is mirrored top to bottom; it may be both, or neither."""

    random_crop: Fraction = 0.3
    """Probability that the crop shrinks to a random square inside it."""

    random_crop_ratio: Fraction = 0.3
    """Largest share of its side that such a crop loses."""

    random_hsv: Fraction = 0.25
    """Probability that hue, saturation and value change at random."""

    crop_to: Literal["page", "character"] = "page"
    """Cut pictures to the whole page, or to the box of the character's alpha."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_ratio(self.random_crop_ratio)


@recipe
class CroppedData(PictureData):
    """Pictures cut out of pages and layers."""

    random_pad: Fraction = 0.5
    """Probability that the crop grows by a random margin on each side."""

    crop_to: Literal["layers", "character"] = "layers"
    """Cut pictures to a box of the layers in question, or of all the character's layers."""


@recipe
class GroupData(CroppedData):
    """All layers of a group of tags at a time, cropped to the group's common box."""

    groups: tuple[tuple[str, ...], ...] = REQUIRED
    """Tags of each group, in the order of its frames."""

    crop_tags: tuple[tuple[str, ...], ...] = ()
    """Tags of each group whose common box is the crop; where there are none, the group's own."""

    crop_skip_tags: tuple[str, ...] = ()
    """Tags of groups that have no say in their crop."""

    ngroup_iters: PositiveInt = 1
    """Samples in a row that take the same group."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from unknown_tags("groups", *self.groups)
        yield from unknown_tags("crop_tags", *self.crop_tags)
        yield from unknown_tags("crop_skip_tags", self.crop_skip_tags)
        if self.crop_tags and len(self.crop_tags) != len(self.groups):
            yield "crop_tags", f"{len(self.crop_tags)} entries for {len(self.groups)} groups"


@recipe
class LayerData(CroppedData):
    """One layer at a time, with its page, cropped in one of several ways."""

    page_alpha: Literal["full", "character"] = "full"
    """Whether the page keeps its background, under an alpha of 1, or has the character's alpha.
    Decomposition shows pages with their background."""

    size_groups: tuple[tuple[str, ...], ...] = (
        HEAD_SIZE_GROUP,
        BODY_SIZE_GROUP,
        HEAD_SIZE_GROUP + BODY_SIZE_GROUP,
    )
    """Groups of tags whose common box is a crop for each of their tags, beside its own box."""

    own_box: bool = True
    """Whether a tag's own box is one of the crops; tags in no group have no other."""

    tags: tuple[str, ...] = TRAINING_TAGS
    """Tags to choose from; a sample with none of them gives the whole character."""

    load_objects: bool = True
    """Whether the tag 'objects' is one of them."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from unknown_tags("tags", self.tags)
        yield from unknown_tags("size_groups", *self.size_groups)


def unknown_tags(field: str, *groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name the tags of a field that no version of the models has."""
    known = {*TAGS_V2, *TRAINING_TAGS}
    for tag in dict.fromkeys(tag for tags in groups for tag in tags):
        if tag not in known:
            yield field, f"unknown tag '{tag}'; {nearest(tag, sorted(known))}"


def check_ratio(ratio: float) -> Iterator[tuple[str, str]]:
    """Whether a crop that loses a share of its side leaves something."""
    if ratio >= 1:
        yield "random_crop_ratio", "nothing would be left of the crop: needs a share below 1"


def check_validation(schedule: Schedule, data: PictureData) -> Iterator[tuple[str, str]]:
    """Whether held-out samples and the steps at which they are measured go together."""
    if schedule.validate_every is not None and data.validation is None:
        yield "schedule.validate_every", "needs held-out samples: give their list, data.validation"
    if schedule.validate_every is None and data.validation is not None:
        yield "data.validation", "nothing measures them: set schedule.validate_every"


def check_groups(
    data: GroupData, hardware: Hardware, deepspeed: DeepSpeed
) -> Iterator[tuple[str, str]]:
    """Whether every process calls the network equally often where its weights are spread."""
    rows, micro_batch = data.ngroup_iters, hardware.micro_batch
    if deepspeed.zero_stage == 3 and rows % micro_batch:
        yield (
            "data.ngroup_iters",
            f"{rows} is no multiple of hardware.micro_batch={micro_batch}: under ZeRO-3 every "
            "process must call the network equally often, so a micro-batch has one group",
        )
