"""Marigold: depth in drawing order, of a page (2D) and of all its layers together (3D).

Values are those of the published configurations where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.data.tags import TAGS_V2
from seethrough.recipe import (
    REQUIRED,
    Execution,
    Experiment,
    Fraction,
    Hub,
    Output,
    PositiveInt,
    Section,
    Source,
    Stage,
    change,
    recipe,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.layer_data import (
    GroupData,
    LayerAlpha,
    PageDepthData,
    check_groups,
    check_ratio,
    check_validation,
)
from seethrough.recipes.objective import DepthNoise, MarigoldObjective, MarigoldObjective3D
from seethrough.recipes.training import AdamW, AnyOptim, Device, Hardware, Schedule, TrainStage

MARIGOLD = Hub("prs-eth/marigold-depth-v1-1")

PARAMETERS = 865_922_244
"""Of the published UNet, which has 8 input channels."""

FRAME_PARAMETERS = 1_213_176_964
"""Of its 3D form with 12 input channels."""

BODY_TAGS = (
    "topwear", "handwear", "bottomwear", "legwear", "footwear", "tail", "wings", "objects",
)  # fmt: skip
HEAD_TAGS = tuple(tag for tag in TAGS_V2 if tag not in BODY_TAGS)


Transparent = Literal["bled", "gray"]
Beyond = Literal["far", "nearest"]


@recipe
class DepthFrames(Section):
    """What the 3D network is shown of a character, and what it learns of depth."""

    absent: bool = True
    """Whether a tag that the character lacks is a frame too, transparent and far; without them the
    network runs over what there is."""

    transparent: Transparent = "bled"
    """What stands where a picture is transparent: the colours around it, as published, so that the
    network doesn't see where a layer ends; or mid-gray, as LayerDiffuse's autoencoder has it."""

    beyond: Beyond = "far"
    """Depth around a layer: far, as published, or the layer's nearest. A small autoencoder blurs
    the depth of thin layers into what is around them."""


@recipe
class DepthSampler(Section):
    """DDIM (Song et al., 2021) from pure noise: how validation and pictures predict depth."""

    steps: PositiveInt = 4
    """Denoising steps; a base with zero terminal SNR does with few."""

    noise: DepthNoise = "random"
    """What they start from: random numbers, or zeros, for a network that was trained with these."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.noise == "zeros" and self.steps > 1:
            yield "steps", "a network that was trained without noise tells depth in one: set 1"


def check_noise(sampler: DepthSampler, objective: MarigoldObjective) -> Iterator[tuple[str, str]]:
    """Whether prediction starts from what training has in place of noise."""
    if sampler.noise != objective.noise:
        yield "sampler.noise", f"differs from objective.noise, '{objective.noise}'"


@recipe
class Marigold2DModel(Section):
    """The 2D UNet and the frozen networks around it."""

    base: Source = MARIGOLD
    """Marigold for pictures in the hub's layout: UNet to start from, autoencoder, text encoder,
    scheduler."""

    unet: Source | None = None
    """A trained 2D UNet to go on from in place of the base's, or a folder in the hub's layout that
    has it as `unet`."""


@recipe
class Marigold2DData(PageDepthData):
    """Whole pages and their depth."""

    target_size: PositiveInt = 768

    transparent: Transparent = "bled"
    """What stands where a picture is transparent: the colours around it, as published, or
    mid-gray."""

    beyond: Beyond = "far"
    """Depth around the character, which no loss is of, but which latents of its rim are: far, as
    published, or the nearest."""

    cache_latents: Execution[bool] = False
    """Keep the latents of every picture and depth on disk; pays when they repeat, so without crops,
    colours and margins at random."""


@recipe
class Marigold2DTrain(TrainStage):
    """Fine-tunes the 2D UNet to tell the depth of a page."""

    implementation: ClassVar[str] = "seethrough.tasks.marigold:Marigold2D"
    outputs: ClassVar[tuple[str, ...]] = ("unet",)

    model: Marigold2DModel = Marigold2DModel()
    """Networks."""

    data: Marigold2DData = change(Marigold2DData, global_batch=16)
    """Samples; 16 is 4 on one GPU, 4 times accumulated."""

    objective: MarigoldObjective = MarigoldObjective()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=3e-5, weight_decay=0.1)
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=20_000, warmup_steps=0, checkpoint_every=2000, pictures_every=500
    )
    """Length and learning rate; the published conversion took the weights of step 20,000."""

    sampler: Execution[DepthSampler] = change(DepthSampler, steps=1)
    """How validation and pictures predict depth."""

    hardware: Execution[Hardware] = change(Hardware, micro_batch=4)
    """One GPU."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)
        yield from check_noise(self.sampler, self.objective)

    @property
    def network(self) -> Source:
        return self.model.unet or self.model.base

    @property
    def parameters(self) -> int | None:
        return PARAMETERS if self.model.base == MARIGOLD else None


@recipe
class Marigold3DModel(Section):
    """The 3D UNet and the frozen networks around it."""

    unet: Source = Output("inflate", "unet")
    """The 3D UNet to start from, or a folder in the hub's layout that has it as `unet`: a
    conversion, whose input is extended by the page, what an earlier training left, or a published
    one. Its weights are taken as they are."""

    base: Source = MARIGOLD
    """Marigold for pictures in the hub's layout: autoencoder, text encoder, scheduler."""


@recipe
class Marigold3DData(GroupData):
    """All layers of a group at a time and the page, with their depths in the page's scale."""

    target_size: PositiveInt = 768

    groups: tuple[tuple[str, ...], ...] = (HEAD_TAGS, BODY_TAGS, TAGS_V2)

    crop_tags: tuple[tuple[str, ...], ...] = (
        tuple(tag for tag in HEAD_TAGS if tag != "hair"),
        BODY_TAGS,
        TAGS_V2,
    )

    page_frame: bool = True
    """Whether the page is a frame too, behind those of the tags."""

    frames: DepthFrames = DepthFrames()
    """What the network is shown, and what it learns."""

    random_crop: Fraction = 0.0
    """Probability that the crop shrinks to a random square inside it. The published 3D
    configuration asks for crops and colours as the 2D one has them, but its dataset makes none."""

    random_crop_ratio: Fraction = 0.3
    """Largest share of its side that such a crop loses."""

    random_hsv: Fraction = 0.0
    """Probability that hue, saturation and value change at random, alike on all frames."""

    cache_latents: Execution[bool] = False
    """Keep the latents of every picture and depth on disk; pays when they repeat, so without crops,
    colours and margins at random."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_ratio(self.random_crop_ratio)
        if not (self.frames.absent or self.page_frame):
            yield "frames.absent", "a character may have no layer of a group: set page_frame too"

    @property
    def transparent(self) -> Transparent:
        """What stands where a picture is transparent."""
        return self.frames.transparent


@recipe
class Marigold3DTrain(TrainStage):
    """Fine-tunes the 3D UNet to tell the depth of all layers of a group at once."""

    implementation: ClassVar[str] = "seethrough.tasks.marigold:Marigold3D"
    outputs: ClassVar[tuple[str, ...]] = ("unet",)

    model: Marigold3DModel = Marigold3DModel()
    """Networks."""

    data: Marigold3DData = change(Marigold3DData, global_batch=8)
    """Samples; 8 is 1 on one GPU, 8 times accumulated."""

    objective: MarigoldObjective3D = MarigoldObjective3D()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=4e-5, weight_decay=0.1)
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=20_000, warmup_steps=500, checkpoint_every=2500, pictures_every=125
    )
    """Length and learning rate. The published length is 400 epochs of samples whose number isn't;
    the steps are ours."""

    sampler: Execution[DepthSampler] = DepthSampler()
    """How validation and pictures predict depth."""

    hardware: Execution[Hardware] = change(Hardware, micro_batch=1, gradient_checkpointing=True)
    """One GPU; the published program can't recompute activations."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)
        yield from check_noise(self.sampler, self.objective)
        yield from check_groups(self.data, self.hardware, self.deepspeed)
        if self.deepspeed.zero_stage == 3 and not self.data.frames.absent:
            yield (
                "data.frames.absent",
                "under ZeRO-3 every process must call the network equally often, but without "
                "absent frames samples differ in their number: set it to true",
            )

    @property
    def network(self) -> Source:
        return self.model.unet

    @property
    def parameters(self) -> int | None:
        return FRAME_PARAMETERS if self.model.base == MARIGOLD else None


@recipe
class OrderLayers(Stage):
    """Puts the true layers of pages in drawing order by the depth that the 3D UNet tells of them.

    Counts the overlapping pairs that come out right, beside those of a fixed order of tags and of
    the true depth through the autoencoder, which no UNet over its latents can beat but by luck.
    """

    implementation: ClassVar[str] = "seethrough.tasks.depth_order:depth_order_stage"
    outputs: ClassVar[tuple[str, ...]] = ("scores", "table")

    unet: Source = Output("train_3d", "unet")
    """The 3D UNet, or a folder in the hub's layout that has it as `unet`."""

    base: Source = MARIGOLD
    """Marigold for pictures in the hub's layout: autoencoder, text encoder, scheduler."""

    pages: Source = REQUIRED
    """Sample list of pages with their layers, not trained on."""

    known: Source = REQUIRED
    """Sample list of training characters: a pair of tags varies if it lies both ways round among
    them. The layers of all are read."""

    layer_alpha: LayerAlpha = "premultiplied"
    """How the layers of samples are stored where their annotation doesn't say."""

    crop_to: Literal["page", "character"] = "page"
    """Whether the UNet sees the whole page, or the box of the character's layers."""

    resolution: PositiveInt = 768
    """Side in px of the square that the UNet sees, a multiple of 8."""

    sampler: DepthSampler = DepthSampler()
    """How depth is predicted."""

    ensemble: PositiveInt = 1
    """Predictions of a page from different noise, whose median counts."""

    frames: DepthFrames = DepthFrames()
    """What the UNet is shown, and what the ceiling is of: as in its training."""

    seed: int = 42
    """Seed; with the page's pixels it fixes all noise."""

    precision: Literal["fp32", "bf16"] = "bf16"
    """Type of all networks."""

    hardware: Execution[Device] = Device()
    """Machine."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.resolution % 8:
            yield "resolution", f"{self.resolution} is no multiple of 8"
        if self.ensemble > 1 and self.sampler.noise == "zeros":
            yield "ensemble", "predictions from zeros are all the same: set 1"


@recipe
class Marigold2DChain(Experiment):
    """Only the 2D model."""

    train_2d: Marigold2DTrain = Marigold2DTrain()
    """Trains the 2D UNet."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.marigold_rehearsal import rehearse_2d

        return rehearse_2d(self)


@recipe
class Marigold3DChain(Experiment):
    """2D training, conversion, 3D fine-tuning from the converted weights, and the order of layers
    that this puts right."""

    train_2d: Marigold2DTrain = Marigold2DTrain()
    """Trains the 2D UNet."""

    inflate: Inflate = change(
        Inflate,
        tag_version="v2",
        group_embedding=False,
        group_sizes=(len(HEAD_TAGS) + 1, len(BODY_TAGS) + 1, len(TAGS_V2) + 1),
    )
    """Converts it to 3D."""

    train_3d: Marigold3DTrain = Marigold3DTrain()
    """Trains the 3D UNet."""

    depth_order: OrderLayers = change(OrderLayers, unet=Output("train_3d", "unet"))
    """Measures the order of layers."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from check_depth_stages(self.train_2d, self.inflate, self.train_3d, self.depth_order)

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.marigold_rehearsal import rehearse_3d

        return rehearse_3d(self)


def check_depth_stages(
    train_2d: Marigold2DTrain,
    inflate: Inflate,
    train_3d: Marigold3DTrain,
    depth_order: OrderLayers,
    names: tuple[str, str, str] = ("train_2d", "inflate", "train_3d"),
) -> Iterator[tuple[str, str]]:
    """Whether the stages of an experiment go together: its fields with what is wrong with them.

    `names` are what it calls the first three.
    """
    in_2d, conversion, in_3d = names
    if train_2d.model.base != train_3d.model.base:
        yield (
            f"{in_2d}.model.base",
            f"{in_3d} has another: its UNet would see other latents than it learned from",
        )
    if depth_order.base != train_3d.model.base:
        yield "depth_order.base", f"{in_3d} has another: its UNet would see other latents"
    if depth_order.frames != train_3d.data.frames:
        yield "depth_order.frames", f"differs from {in_3d}.data.frames, which its UNet learned from"
    if depth_order.sampler.noise != train_3d.objective.noise:
        yield "depth_order.sampler.noise", f"differs from {in_3d}.objective.noise"
    for name in ("transparent", "beyond"):
        if getattr(train_2d.data, name) != getattr(train_3d.data.frames, name):
            yield f"{in_2d}.data.{name}", f"differs from {in_3d}.data.frames.{name}"
    if inflate.group_embedding:
        yield f"{conversion}.group_embedding", "depth has no captions to offset: set it to false"
    page = int(train_3d.data.page_frame)
    sizes = tuple(len(group) + page for group in train_3d.data.groups)
    if inflate.group_sizes != sizes:
        yield f"{conversion}.group_sizes", f"{in_3d}.data has groups of {sizes} frames"
