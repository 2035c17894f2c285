"""Depth Anything V2, fine-tuned to the depth of pages in drawing order, and a control adapter.

Values are those of the published configuration where a docstring doesn't say otherwise. It trains
the plain network: its adapter, which can't run as published, was never trained.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.data.tags import TAGS_V2
from seethrough.recipe import (
    Execution,
    Experiment,
    Fraction,
    Hub,
    NonNegativeFloat,
    Output,
    PositiveInt,
    Section,
    Source,
    Stage,
    change,
    recipe,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.layer_data import (
    LayerAlpha,
    PageDepthData,
    check_ratio,
    check_validation,
    unknown_tags,
)
from seethrough.recipes.training import AdamW, AnyOptim, Device, Hardware, Schedule, TrainStage

DEPTH_ANYTHING = Hub("depth-anything/Depth-Anything-V2-Large-hf")
"""The published weights as transformers keeps them, in safetensors; the published file is a pickle,
which `file:depth_anything_v2_vitl.pth` reads."""

PARAMETERS = 335_315_649
"""Of the network with the large backbone."""

ADAPTER_PARAMETERS = 16_217_152
"""Of its adapter, for a control of two channels."""


@recipe
class DepthAnythingModel(Section):
    """The network; how large it is, its weights tell."""

    weights: Source | None = DEPTH_ANYTHING
    """Weights to start from: a folder that this stage wrote, one in transformers' layout, or a
    published file. None makes a new network of the sizes that follow."""

    width: PositiveInt = 384
    """New network: width of the backbone, a multiple of `heads`."""

    depth: PositiveInt = 12
    """New network: blocks of the backbone, a multiple of 4; the head sees the last of each
    quarter."""

    heads: PositiveInt = 6
    """New network: attention heads."""

    patch: PositiveInt = 14
    """New network: side of a patch in px, an even number."""

    features: PositiveInt = 64
    """New network: channels of the head, an even number."""

    out_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (48, 96, 192, 384)
    """New network: channels of what the head makes of the four blocks."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.width % self.heads:
            yield "width", f"{self.width} is no multiple of heads={self.heads}"
        if self.depth % 4:
            yield "depth", f"{self.depth} is no multiple of 4"
        for name, value in (("patch", self.patch), ("features", self.features)):
            if value % 2:
                yield name, f"{value} is odd"


@recipe
class DepthAnythingData(PageDepthData):
    """Whole pages and their depth, as they are."""

    target_size: PositiveInt = 518
    """Side of the square picture in px, a multiple of the patch."""

    random_flip: Fraction = 0.0
    random_crop: Fraction = 0.0
    random_hsv: Fraction = 0.0

    def check(self) -> Iterator[tuple[str, str]]:
        # Not those of other pictures: the patch says what the side is a multiple of.
        yield from check_ratio(self.random_crop_ratio)


@recipe
class ControlledDepthData(DepthAnythingData):
    """The same, and single layers, where what is seen of a layer on the page tells of the rest."""

    control_probability: Fraction = 0.5
    """Probability that an item is a layer with its control, and no page. Published is 0, which
    leaves the adapter without effect; half is ours."""

    tags: tuple[str, ...] = TAGS_V2
    """Layers to choose from. One with a single level of depth gives the page: relative depth has
    nothing to tell there."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from unknown_tags("tags", self.tags)


@recipe
class DepthAnythingLoss(Section):
    """Weights of the loss's terms, over the pixels of a sample's character."""

    gradient_matching: NonNegativeFloat = 1.0
    """Of the difference of gradients, in length and direction."""

    affine_invariant: NonNegativeFloat = 1.0
    """Of the absolute error after both lost their median and deviation."""

    scale_invariant_log: NonNegativeFloat = 0.0
    """Of the scale-invariant error of the logarithm."""

    scale_and_shift_invariant: NonNegativeFloat = 0.0
    """Of the absolute error after the best scale and shift; in the published program no option
    reaches it."""

    scale_before_loss: bool = True
    """Whether both are divided by their maximum beforehand. Published is one maximum for all
    samples of a batch, whose only size is 1; here each has its own."""

    ignore_mask: bool = False
    """Whether all pixels count, those outside of the character too."""

    def check(self) -> Iterator[tuple[str, str]]:
        weights = (
            self.gradient_matching,
            self.affine_invariant,
            self.scale_invariant_log,
            self.scale_and_shift_invariant,
        )
        if not any(weights):
            yield "affine_invariant", "nothing is left to learn from: give a term a weight"
        if self.ignore_mask and self.scale_invariant_log > 0:
            yield "ignore_mask", "the background has no logarithm: set scale_invariant_log to 0"


@recipe
class DepthAnythingTrain(TrainStage):
    """Fine-tunes the plain network."""

    implementation: ClassVar[str] = "seethrough.tasks.depth_anything:DepthAnything"
    outputs: ClassVar[tuple[str, ...]] = ("depth_anything",)

    model: DepthAnythingModel = DepthAnythingModel()
    """Network."""

    data: DepthAnythingData = change(DepthAnythingData, global_batch=1)
    """Samples."""

    loss: DepthAnythingLoss = DepthAnythingLoss()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=3e-5)
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=100, warmup_steps=10, checkpoint_every=200, pictures_every=200
    )
    """Length and learning rate; the last step writes a checkpoint and pictures too."""

    hardware: Execution[Hardware] = change(Hardware, micro_batch=1)
    """One GPU."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)
        if self.model.weights is None and self.data.target_size % self.model.patch:
            yield (
                "data.target_size",
                f"{self.data.target_size} is no multiple of model.patch={self.model.patch}",
            )

    @property
    def network(self) -> Source | None:
        return self.model.weights

    @property
    def parameters(self) -> int | None:
        return PARAMETERS if self.model.weights == DEPTH_ANYTHING else None


@recipe
class AdapterModel(DepthAnythingModel):
    """The network, and the adapter that is added unless the weights have one."""

    control_widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 256, 512)
    """New adapter: channels of its three levels, even numbers; from 32 on multiples of 32."""

    learn: Literal["all", "adapter"] = "all"
    """Train everything, or leave the plain network as it is."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for width in self.control_widths:
            if width % 2 or (width > 32 and width % 32):
                yield "control_widths", f"{width} doesn't split into the groups of normalisation"


@recipe
class DepthAnythingAdapterTrain(DepthAnythingTrain):
    """Fine-tunes the network with an adapter, on pages without and on layers with a control."""

    implementation: ClassVar[str] = "seethrough.tasks.depth_anything:DepthAnythingAdapter"

    model: AdapterModel = change(AdapterModel)
    """Network."""

    data: ControlledDepthData = change(ControlledDepthData)
    """Samples."""

    @property
    def parameters(self) -> int | None:
        plain = super().parameters
        published = self.model.control_widths == (128, 256, 512)
        return plain + ADAPTER_PARAMETERS if plain is not None and published else None

    @property
    def trained_parameters(self) -> int | None:
        known = self.parameters is not None and self.model.learn == "adapter"
        return ADAPTER_PARAMETERS if known else None


@recipe
class DepthScores(Stage):
    """Measures the depth of pages beside the mean depth by place of training pages.

    Of a network with an adapter also that of layers, with their control and without.
    """

    implementation: ClassVar[str] = "seethrough.tasks.depth_scores:depth_scores_stage"
    outputs: ClassVar[tuple[str, ...]] = ("scores", "table")

    network: Source = Output("train", "depth_anything")
    """What training left."""

    pages: Source = Output("characters", "test")
    """Sample list of pages, not trained on."""

    known: Source = Output("characters", "train")
    """Sample list of training pages."""

    target_size: PositiveInt = 518
    """Side in px of the squares that the network sees, a multiple of its patch."""

    crop_to: Literal["page", "character"] = "page"
    """Cut pictures to the whole page, or to the box of the character's alpha."""

    tags: tuple[str, ...] = TAGS_V2
    """Layers to choose from."""

    layer_alpha: LayerAlpha = "premultiplied"
    """How the colour of stored layers relates to alpha where a sample's annotation doesn't say."""

    margin: Fraction = 0.1
    """By what share the network's RMSE of pages is to lie below the mean's: told, and kept as the
    metric `reached`, 1 or 0."""

    hardware: Execution[Device] = Device()
    """Machine."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from unknown_tags("tags", self.tags)


@recipe
class DepthAnythingChain(Experiment):
    """The plain network."""

    train: DepthAnythingTrain = DepthAnythingTrain()
    """Fine-tunes it."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.depth_anything_rehearsal import rehearse

        return rehearse(self)


@recipe
class DepthAnythingAdapterChain(DepthAnythingChain):
    """The network with its adapter."""

    train: DepthAnythingAdapterTrain = change(DepthAnythingAdapterTrain)
    """Fine-tunes it."""
