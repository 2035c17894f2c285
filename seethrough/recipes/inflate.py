"""Conversion of a 2D UNet into the 3D one."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.data.tags import BODY_GROUP, HEAD_GROUP
from seethrough.recipe import Output, PositiveInt, Source, Stage, recipe


@recipe
class Inflate(Stage):
    """Makes the 3D UNet from the 2D one, accounts for every key, and proves them equal."""

    implementation: ClassVar[str] = "seethrough.tasks.inflate:inflate_stage"
    outputs: ClassVar[tuple[str, ...]] = ("unet",)

    unet: Source = Output("train_2d", "unet")
    """The 2D UNet; a 3D one is passed on with its weights as they are."""

    tag_version: Literal["v2", "v3"] = "v3"
    """The flow that the UNet decomposes by, which its config names: 'v3' has a pass over the body's
    tags and one over the head's, 'v2' one pass over its 19 tags. Depth is of the 19 tags."""

    group_embedding: bool = True
    """Whether frames get learned offsets by group."""

    group_sizes: tuple[PositiveInt, ...] = (len(BODY_GROUP), len(HEAD_GROUP))
    """Frames of each group."""

    seed: int = 0
    """Seed of the new weights."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights on disk. The published conversion stores bfloat16."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.tag_version == "v2" and self.group_embedding:
            yield "group_embedding", "tag_version='v2' has one group and no embedding: set it false"
