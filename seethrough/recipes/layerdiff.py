"""LayerDiff: the 2D model, its 3D successor, and the chain that leads from one to the other.

Values are those of the published V3 configurations where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal, Protocol

from seethrough.data.tags import BODY_GROUP, HEAD_GROUP, TAGS_V2, TAGS_V3, VERSION_GROUPS
from seethrough.recipe import (
    REQUIRED,
    Execution,
    Experiment,
    Fraction,
    Hub,
    NonNegativeInt,
    Output,
    PositiveFloat,
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
    LayerData,
    check_groups,
    check_validation,
)
from seethrough.recipes.objective import Objective, Objective3D
from seethrough.recipes.training import AdamW, AnyOptim, Device, Hardware, Schedule, TrainStage

SDXL_PARAMETERS = 2_567_475_204
"""Of SDXL's UNet with 8 input channels."""

FRAME_PARAMETERS = 4_071_291_140
"""Of its 3D form with group embeddings."""

ANIMAGINE = Hub("cagliostrolab/animagine-xl-4.0")
LAYERDIFFUSE = Hub("lllyasviel/LayerDiffuse_Diffusers")


@recipe
class LayerDiff2DModel(Section):
    """The 2D UNet and the frozen networks around it."""

    base: Source = ANIMAGINE
    """SDXL in the hub's layout: UNet to start from, autoencoder, text encoders, scheduler."""

    unet_delta: Source | None = LAYERDIFFUSE
    """Where ld_diffusers_sdxl_attn.safetensors lies, which is added to the base's UNet; none
    adds nothing."""

    transparent_vae: Source = LAYERDIFFUSE
    """LayerDiffuse's two files, or a saved TransparentVAE."""

    unet: Source | None = None
    """A trained 2D UNet to go on from in place of the base's, or a folder in the hub's layout that
    has it as `unet`."""


@recipe
class LayerDiff2DData(LayerData):
    """One tag of a sample at a time, cropped in one of several ways."""

    target_size: PositiveInt = 1024

    caption_files: bool = True
    """Whether a text file beside a sample's layer is its caption, in place of the tag's name."""

    mask_condition: bool = False
    """Whether the network also sees the visible part of the tag, in 4 more input channels, and a
    page without its background. For work in 2D: the 3D model has no such channels."""

    random_mask: Fraction = 0.0
    """Mask condition, samples without layers: probability that the page's mask is eroded, dilated
    or gets a hole."""

    cache_latents: Execution[bool] = False
    """Keep the posterior of every picture on disk; pays when pictures repeat, so when random_pad
    is 0."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.mask_condition and self.page_alpha != "full":
            yield "page_alpha", "mask_condition has an alpha of its own: leave it at 'full'"
        if self.random_mask and not self.mask_condition:
            yield "random_mask", "changes what mask_condition shows: needs that, or 0"


@recipe
class LayerDiff2DTrain(TrainStage):
    """Fine-tunes the 2D UNet to draw one tag's whole layer from the page."""

    implementation: ClassVar[str] = "seethrough.tasks.layerdiff2d:LayerDiff2D"
    outputs: ClassVar[tuple[str, ...]] = ("unet",)

    model: LayerDiff2DModel = LayerDiff2DModel()
    """Networks."""

    data: LayerDiff2DData = change(LayerDiff2DData, global_batch=64)
    """Samples; 64 is 8 on each of 8 GPUs."""

    objective: Objective = Objective()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=3e-5)
    """Optimizer."""

    schedule: Schedule = change(Schedule, max_steps=200_000)
    """Length and learning rate."""

    hardware: Execution[Hardware] = change(
        Hardware, processes=8, micro_batch=8, gradient_checkpointing=True, device_memory_gib=141.0
    )
    """8 H200."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)

    @property
    def network(self) -> Source:
        return self.model.unet or self.model.base

    @property
    def parameters(self) -> int | None:
        return SDXL_PARAMETERS if self.model.base == ANIMAGINE else None


@recipe
class LayerDiff3DModel(Section):
    """The 3D UNet and the frozen networks around it."""

    unet: Source = Output("inflate", "unet")
    """The 3D UNet to start from, or a folder in the hub's layout that has it as `unet`: a
    conversion, what an earlier training left, or a published one. Its weights are taken as they
    are."""

    base: Source = ANIMAGINE
    """SDXL in the hub's layout: autoencoder, text encoders, scheduler."""

    transparent_vae: Source = LAYERDIFFUSE
    """LayerDiffuse's two files, or a saved TransparentVAE."""

    learn: Literal["all", "temporal", "spatial"] = "all"
    """Parameters to train: all, the blocks across frames, or everything but these."""

    temporal_lr: PositiveFloat | None = None
    """Peak learning rate of the blocks across frames; none takes the optimizer's."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.temporal_lr is not None and self.learn == "spatial":
            yield "temporal_lr", "learn='spatial' trains no blocks across frames: leave it at none"


@recipe
class LayerDiff3DData(GroupData):
    """All layers of a group at a time, and the page."""

    target_size: PositiveInt = 1280

    page_alpha: Literal["full", "character"] = "full"
    """Whether the page keeps its background, under an alpha of 1, or has the character's alpha.
    Decomposition shows pages with their background."""

    groups: tuple[tuple[str, ...], ...] = (BODY_GROUP, HEAD_GROUP)

    pad_frames: NonNegativeInt = 0
    """Frames that every group has at least: further ones have the empty caption and no layer. For
    a UNet without group embeddings."""

    cache_latents: Execution[bool] = False
    """Keep the posterior of every picture on disk; pays when pictures repeat, so when random_pad
    is 0."""


@recipe
class LayerDiff3DTrain(TrainStage):
    """Fine-tunes the 3D UNet to draw all layers of a group at once."""

    implementation: ClassVar[str] = "seethrough.tasks.layerdiff3d:LayerDiff3D"
    outputs: ClassVar[tuple[str, ...]] = ("unet",)

    seed: int = 64

    model: LayerDiff3DModel = LayerDiff3DModel()
    """Networks."""

    data: LayerDiff3DData = change(LayerDiff3DData, global_batch=64)
    """Samples; 64 is 1 on each of 8 GPUs, 8 times accumulated."""

    objective: Objective3D = Objective3D()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=4e-5)
    """Optimizer."""

    schedule: Schedule = change(Schedule, max_steps=200_000, pictures_every=125)
    """Length and learning rate."""

    hardware: Execution[Hardware] = change(
        Hardware, processes=8, micro_batch=1, gradient_checkpointing=True, device_memory_gib=141.0
    )
    """8 H200."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)
        yield from check_groups(self.data, self.hardware, self.deepspeed)

    @property
    def network(self) -> Source:
        return self.model.unet

    @property
    def parameters(self) -> int | None:
        return FRAME_PARAMETERS if self.model.base == ANIMAGINE else None


@recipe
class Sampler(Section):
    """DPM-Solver++ of second order as a stochastic differential equation (Lu et al., 2022)."""

    steps: PositiveInt = 30
    """Denoising steps."""

    timestep_spacing: Literal["leading", "trailing"] = "leading"
    """Where steps lie: 'leading', as published, begins the farther from the last timestep the fewer
    they are (one of 1000 at 501); 'trailing' begins there."""

    shared_noise: bool = False
    """Start all frames of a page from one noise, as the published pipeline does although its
    training draws one a frame."""

    seed: int = 42
    """Seed; with the page's bytes it fixes every random number."""


@recipe
class Decompose(Stage):
    """Takes pages apart into PNG layers and PSDs, and measures them where the truth is known."""

    implementation: ClassVar[str] = "seethrough.tasks.decompose:decompose_stage"
    outputs: ClassVar[tuple[str, ...]] = ("layers", "report")

    unet: Source = Output("train_3d", "unet")
    """The 3D UNet, or a folder in the hub's layout that has it as `unet`; its config names the
    flow."""

    base: Source = ANIMAGINE
    """SDXL in the hub's layout: autoencoder and text encoders."""

    transparent_vae: Source = LAYERDIFFUSE
    """LayerDiffuse's two files, or a saved TransparentVAE."""

    pages: Source = REQUIRED
    """Sample list of pages; those in the published sample layout are measured."""

    layer_alpha: LayerAlpha = "premultiplied"
    """How the layers of samples are stored where their annotation doesn't say."""

    known: Source | None = None
    """Sample list of training characters for the baselines; none leaves the baselines out."""

    big_tags: tuple[str, ...] = (
        "front hair", "back hair", "hair", "headwear", "face", "neck", "topwear", "eyewear",
    )  # fmt: skip
    """Tags whose mean is reported beside the mean of all: those of them that the flow has."""

    resolution: PositiveInt = 1280
    """Side of the square canvas in px."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    """What the UNet predicts."""

    crop_to: Literal["page", "character"] = "page"
    """Whether the first pass sees the whole page, or its part where alpha is above 0."""

    head_pass: Literal["crop", "body"] = "crop"
    """V3 flow: whether the second pass sees the head alone, cut from the page in its own resolution
    and enlarged, or what the first one saw."""

    sampler: Sampler = Sampler()
    """Sampler."""

    precision: Literal["fp32", "bf16"] = "bf16"
    """Type of all networks."""

    averaged_decode: bool = False
    """Decode 8 flipped and turned copies and take the median."""

    pages_at_once: Execution[PositiveInt] = 1
    """Pages in one forward pass."""

    hardware: Execution[Device] = Device()
    """Machine."""

    def check(self) -> Iterator[tuple[str, str]]:
        for tag in self.big_tags:
            if tag not in (*TAGS_V2, *TAGS_V3):
                yield "big_tags", f"{tag!r} is no tag of either version"


@recipe
class LayerDiff2DChain(Experiment):
    """Only the 2D model."""

    train_2d: LayerDiff2DTrain = LayerDiff2DTrain()
    """Trains the 2D UNet."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.layerdiff_rehearsal import rehearse_2d

        return rehearse_2d(self)


@recipe
class LayerDiff3DChain(Experiment):
    """2D training, conversion, 3D fine-tuning, and decomposition of pages not trained on."""

    train_2d: LayerDiff2DTrain = LayerDiff2DTrain()
    """Trains the 2D UNet."""

    inflate: Inflate = Inflate()
    """Converts it to 3D."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """Trains the 3D UNet."""

    decompose: Decompose = change(Decompose, unet=Output("train_3d", "unet"))
    """Takes pages apart."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from check_layer_stages(self)

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.layerdiff_rehearsal import rehearse_3d

        return rehearse_3d(self)


class LayerStages(Protocol):
    """An experiment that trains LayerDiff 3D and decomposes pages with it."""

    @property
    def train_2d(self) -> LayerDiff2DTrain: ...
    @property
    def inflate(self) -> Inflate: ...
    @property
    def train_3d(self) -> LayerDiff3DTrain: ...
    @property
    def decompose(self) -> Decompose: ...


def check_layer_stages(stages: LayerStages) -> Iterator[tuple[str, str]]:
    """Whether the stages of an experiment go together: its fields with what is wrong with them."""
    trained = stages.train_3d.objective.prediction_type
    if stages.decompose.prediction_type != trained:
        yield "decompose.prediction_type", f"train_3d predicts {trained}: make them the same"
    if stages.train_2d.objective.prediction_type != trained:
        yield "train_2d.objective.prediction_type", f"train_3d predicts {trained}"
    if stages.train_2d.data.mask_condition:
        yield (
            "train_2d.data.mask_condition",
            "gives the 2D UNet 12 input channels, but the 3D one has 8: set it to false",
        )
    if stages.train_3d.data.page_alpha != "full":
        yield (
            "train_3d.data.page_alpha",
            "decompose shows pages with their background: set it to 'full'",
        )
    version, groups = stages.inflate.tag_version, stages.train_3d.data.groups
    if groups != VERSION_GROUPS[version]:
        yield (
            "train_3d.data.groups",
            f"not those that inflate.tag_version={version!r} decomposes, in their order",
        )
    sizes = tuple(len(group) for group in groups)
    if stages.inflate.group_sizes != sizes:
        yield "inflate.group_sizes", f"train_3d.data.groups have {sizes} tags"
    padded = any(size < stages.train_3d.data.pad_frames for size in sizes)
    if padded and stages.inflate.group_embedding:
        yield (
            "train_3d.data.pad_frames",
            "group embeddings have none for further frames: set it to 0, or "
            "inflate.group_embedding to false",
        )
