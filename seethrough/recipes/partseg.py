"""Body-part segmentation: SAM-HQ fine-tuned to find the parts of a character, without prompts.

Values are those of the published training where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.data.part_tags import PART_TAGS
from seethrough.data.tags import TAGS_V3
from seethrough.recipe import (
    REQUIRED,
    Execution,
    Experiment,
    Fraction,
    Local,
    NonNegativeFloat,
    Output,
    PositiveFloat,
    PositiveInt,
    Section,
    Source,
    Stage,
    change,
    recipe,
)
from seethrough.recipe.errors import nearest
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import (
    AdamW,
    AnyOptim,
    Data,
    DeepSpeed,
    Device,
    Hardware,
    Schedule,
    TrainStage,
)

SAM_HQ_H = Local("sam_hq_vit_h.pth")
"""Of huggingface.co/lkeab/hq-sam, put into a data root by hand: pickled files are not fetched."""

PARAMETERS = 641_986_960, 279_616
"""Of a model that starts from it and has MLPs a class: common ones, and those of a class."""

PROMPT_PARAMETERS, READ_OF_PROMPTS = 6_220, 256
"""Of its prompt encoder, and what of these masks depend on: that there is no prompt."""

IOU_PARAMETERS = 132_612
"""Of its estimate of IoUs, which nothing teaches."""


@recipe
class PartSegModel(Section):
    """SemanticSam: what it starts from, what each class has of its own, and what is frozen."""

    sam: Source | None = SAM_HQ_H
    """Weights of SAM-HQ, or of SAM, to start from, in a file of torch.save (plain tensors) or
    safetensors; it says itself how large the model is. All classes start from the same head."""

    partseg: Source | None = None
    """A trained SemanticSam to go on from, in place of sam."""

    mask_decoder: Literal["mlp_variant", "token_variant"] = "mlp_variant"
    """What each class has of its own: MLPs behind a common token, or a token before common MLPs."""

    freeze_image_encoder: bool = False
    """Leave the image encoder as it is."""

    freeze_prompt_encoder: bool = True
    """Leave what stands for no prompt as it is."""

    freeze_mask_decoder: bool = False
    """Leave the mask decoder as it is, but for the heads of the classes."""

    def check(self) -> Iterator[tuple[str, str]]:
        if (self.sam is None) == (self.partseg is None):
            yield "partseg", "give it or sam: training starts from one"


@recipe
class PartSegData(Data):
    """Pages with a mask for each body part: COCO run lengths beside the page, or a label map.

    Each source is a sample list. What lies beside a page says `seethrough/data/part_masks.py`.
    """

    tags: tuple[str, ...] = TAGS_V3
    """The classes, in order: tags of V1, V2 or V3, 'head', or the classes of face parsing; and
    'foreground' for all of them."""

    target_size: PositiveInt = 1024
    """Side of the square picture in px, which is the SAM's."""

    random_flip: Fraction = 0.5
    """Probability that an item may be mirrored, in the two ways that follow."""

    flip_horizontal: Fraction = 0.8
    """Of these items, probability of mirroring left to right."""

    flip_vertical: Fraction = 0.3
    """Of these items, independently, probability of mirroring top to bottom."""

    random_crop: Fraction = 0.3
    """Probability of a crop to a random square inside the page's."""

    random_crop_ratio: Fraction = 0.3
    """Largest share of its side that such a crop loses."""

    random_hsv: Fraction = 0.25
    """Probability of colours changed at random: hue, saturation and value."""

    random_downscale: Fraction = 0.0
    """Probability of a picture without detail, enlarged from one of downscale_sizes."""

    downscale_sizes: tuple[PositiveInt, ...] = (48, 64, 128, 256)
    """Sides in px of such pictures, each as likely as the others."""

    validation: Execution[Source | None] = None
    """Sample list of held-out samples, which schedule.validate_every measures."""

    def check(self) -> Iterator[tuple[str, str]]:
        for tag in self.tags:
            if tag not in PART_TAGS:
                yield "tags", f"unknown tag '{tag}'; {nearest(tag, sorted(PART_TAGS))}"
        if not self.tags or len(set(self.tags)) < len(self.tags):
            yield "tags", "needs at least one tag, and each once"
        if not self.downscale_sizes:
            yield "downscale_sizes", "needs at least one side"


@recipe
class PointSampling(Section):
    """At which points of a mask its loss is computed."""

    points: PositiveInt = 12_544
    """Points of each mask: 112 squared."""

    oversampling: PositiveFloat = 3.0
    """Points to choose the unsure ones from, as a multiple of `points`."""

    unsure_share: Fraction = 0.75
    """Share of the points where the prediction is least sure; the others lie anywhere."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.oversampling < self.unsure_share:
            yield "oversampling", f"{self.oversampling} gives too few points for unsure_share"


@recipe
class PartSegLoss(Section):
    """Weights of the loss terms, each a mean over the masks that are to be relied on."""

    bce: NonNegativeFloat = 1.0
    """Binary cross-entropy."""

    dice: NonNegativeFloat = 1.0
    """Dice loss: one minus twice the overlap over the sum."""

    sampling: PointSampling = PointSampling()
    """Points."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.bce == 0 and self.dice == 0:
            yield "bce", "nothing is left to learn from: give a term a weight"


@recipe
class FourGpus(Hardware):
    """Four GPUs, as published."""

    processes: PositiveInt = 4


@recipe
class PartSegTrain(TrainStage):
    """Fine-tunes a SAM to give a mask for each body part."""

    implementation: ClassVar[str] = "seethrough.tasks.partseg:PartSeg"
    outputs: ClassVar[tuple[str, ...]] = ("partseg",)

    model: PartSegModel = PartSegModel()
    """Network."""

    data: PartSegData = change(PartSegData, global_batch=32)
    """Samples; 32 is 1 on each of four GPUs, eight times accumulated."""

    loss: PartSegLoss = PartSegLoss()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=2e-4, weight_decay=0.1)
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=18_000, warmup_steps=1000, checkpoint_every=2000, pictures_every=500
    )
    """As long as the published checkpoint was trained; the published configuration says 200 epochs
    of unpublished samples."""

    deepspeed: Execution[DeepSpeed] = change(DeepSpeed, zero_stage=2)
    """Distribution of the state."""

    hardware: Execution[Hardware] = change(FourGpus)
    """Machine."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if (self.schedule.validate_every is None) != (self.data.validation is None):
            yield "schedule.validate_every", "goes together with data.validation: give both or none"

    @property
    def network(self) -> Source | None:
        return self.model.partseg or self.model.sam

    @property
    def parameters(self) -> int | None:
        if self.network != SAM_HQ_H or self.model.mask_decoder != "mlp_variant":
            return None
        common, per_class = PARAMETERS
        return common + per_class * len(self.data.tags)

    @property
    def trained_parameters(self) -> int | None:
        if self.parameters is None or self.model.freeze_image_encoder:
            return None
        if self.model.freeze_mask_decoder:
            return None
        taught = self.parameters - IOU_PARAMETERS - PROMPT_PARAMETERS
        return taught if self.model.freeze_prompt_encoder else taught + READ_OF_PROMPTS


@recipe
class SmallSam(Stage):
    """Makes a small SAM-HQ of new weights, in place of a pretrained one."""

    implementation: ClassVar[str] = "seethrough.tasks.part_scores:small_sam_stage"
    outputs: ClassVar[tuple[str, ...]] = ("sam",)

    image_size: PositiveInt = 64
    """Side in px of the pictures that it sees."""

    patch_size: PositiveInt = 4
    """Side of a token in px; masks have four pixels a token's side."""

    width: PositiveInt = 96
    """Of the image encoder's tokens."""

    depth: PositiveInt = 2
    """Its blocks; the last attends to the whole picture."""

    heads: PositiveInt = 4
    """Its attention heads."""

    window_size: PositiveInt = 8
    """Side in tokens of the windows that the other blocks attend within."""

    decoder_width: PositiveInt = 64
    """Of the mask decoder's tokens."""

    decoder_mlp_width: PositiveInt = 128
    """Of its hidden layers."""

    seed: int = 3
    """Seed of all weights."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.image_size % self.patch_size:
            yield "patch_size", f"{self.patch_size} doesn't divide image_size={self.image_size}"
        elif self.window_size * self.patch_size >= self.image_size:
            yield "window_size", "a window is smaller than the picture"
        if self.width % self.heads:
            yield "heads", f"{self.heads} doesn't divide width={self.width}"
        if self.decoder_width % 16:
            yield "decoder_width", f"{self.decoder_width} is no multiple of 16"


@recipe
class PartScores(Stage):
    """Measures a trained model on pages that it has not seen, beside the mean mask of each tag."""

    implementation: ClassVar[str] = "seethrough.tasks.part_scores:part_scores_stage"
    outputs: ClassVar[tuple[str, ...]] = ("scores",)

    partseg: Source = Output("train", "partseg")
    """The trained model; it says which tags it finds."""

    pages: Source = REQUIRED
    """Sample list of the pages to measure on, all of one size."""

    known: Source = REQUIRED
    """Sample list of training pages of the same size, for the mean masks."""

    margin: Fraction = 0.1
    """How far the mean IoU over tags is to lie above that of the mean masks: told, and kept as the
    metric `reached`, 1 or 0."""

    hardware: Execution[Device] = Device()
    """Machine."""


@recipe
class PartSegChain(Experiment):
    """The training alone."""

    train: PartSegTrain = PartSegTrain()
    """Fine-tunes the SAM."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.partseg_rehearsal import rehearse

        return rehearse(self)
