"""Transparency: Stable Diffusion 3.5 medium fine-tuned to tell what is transparent in a photo.

In one step: the transformer sees the latents of a photo and gives those of its mask. Values are
those of the published configuration where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, TypeAlias

from seethrough.recipe import (
    Execution,
    Experiment,
    Fraction,
    Hub,
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
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import (
    AdamW,
    AnyOptim,
    Data,
    DeepSpeed,
    Hardware,
    Schedule,
    TrainStage,
)

SD35_MEDIUM = Hub("stabilityai/stable-diffusion-3.5-medium")

TRANSFORMER_FILES = ("transformer", "config.json", "diffusion_pytorch_model*.safetensors*")
"""What is read of a repository that has a transformer as its subfolder, or is one."""

PARAMETERS = 2_243_171_520
"""Of its transformer."""

WIDTH = 1536
"""Of its tokens, which all layers of attention take and give."""

ATTENTION_LAYERS = {
    **dict.fromkeys(("to_q", "to_k", "to_v", "to_out.0"), 24 + 13),
    **dict.fromkeys(("add_q_proj", "add_k_proj", "add_v_proj"), 24),
    "to_add_out": 23,
}
"""How many of each it has: 24 blocks, 13 of which attend twice; the last gives no text."""


@recipe
class EmptyPrompt(Stage):
    """Encodes the empty prompt, the only text that training and prediction condition on.

    Both CLIP encoders' features, padded with zeros to the width of the third encoder, T5, whose
    tokens are zeros: T5 is not needed, nor fetched.
    """

    implementation: ClassVar[str] = "seethrough.tasks.empty_prompt:empty_prompt_stage"
    outputs: ClassVar[tuple[str, ...]] = ("prompt",)
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "base": (
            "tokenizer",
            "tokenizer_2",
            "text_encoder",
            "text_encoder_2",
            "transformer/config.json",
        )
    }

    base: Source = SD35_MEDIUM
    """A base in the hub's layout: both CLIP encoders with their tokenizers, and the transformer's
    config."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What the encoders compute in and the embeddings are stored as."""


@recipe
class TransparencyModel(Section):
    """The transformer and the frozen networks around it."""

    base: Source = SD35_MEDIUM
    """Stable Diffusion 3.5 in the hub's layout: transformer to start from, autoencoder."""

    transformer: Source | None = None
    """A trained transformer to go on from in place of the base's, or a folder in the hub's layout
    that has it as `transformer`."""

    prompt: Source = Output("prompt", "prompt")
    """The stored empty prompt."""

    vae_precision: Literal["fp32", "bf16"] = "bf16"
    """What the frozen autoencoder computes in."""


@recipe
class TransparencyData(Data):
    """Photos with masks of what is transparent in them, in the layout of Trans10K.

    Each source is a dataset's folder; all of its training split is an epoch.
    """

    classes: Literal["merged", "apart"] = "merged"
    """Whether the mask has one class, transparent, or things and stuff apart."""

    target_sizes: tuple[PositiveInt, ...] = (1024,)
    """Sides in px of the squares that photos are resized to, whatever their aspect; of several,
    each step takes one."""

    random_flip: Fraction = 0.5
    """Probability that photo and mask are mirrored left to right."""

    random_colour: Fraction = 0.5
    """Probability that brightness, contrast and saturation change by up to a fifth, and hue by up
    to a tenth of the circle."""

    random_blur: Fraction = 0.3
    """Probability of blur, of motion or Gaussian, over 11 to 31 px of the stored photo."""

    random_noise: Fraction = 0.3
    """Probability of Gaussian noise of a deviation of 0.1 to 0.3 of the range of values."""

    validation: Execution[Source | None] = None
    """Dataset whose validation split, easy and hard, schedule.validate_every measures."""

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.target_sizes:
            yield "target_sizes", "needs at least one side"
        for size in self.target_sizes:
            if size % 16:
                yield "target_sizes", f"{size} is no multiple of 16"


@recipe
class TransparencyObjective(Section):
    """What the transformer is trained to tell, and how errors weigh."""

    method: Literal["one_step", "diffusion"] = "one_step"
    """Mask latents from photo latents in one step; or, the older way, a denoising of mask latents
    that lie beside those of the photo. To these a base is blind at first: their weights start at
    zero, where the published training drew all of the first layer's anew."""

    timestep: PositiveFloat = 1000.0
    """One step: the timestep that the transformer is told."""

    posterior: Literal["sample", "mean"] = "sample"
    """Latents of photo and mask: a draw of the autoencoder's posterior, or its mean."""

    latent_mse: NonNegativeFloat = 1.0
    """Weight of the mean squared error of latents, or of the flow's velocity."""

    bce: NonNegativeFloat = 0.0
    """One step: weight of the binary cross-entropy of decoded pixels. Pixels are decoded where
    one of these three weights is not 0."""

    dice: NonNegativeFloat = 0.0
    """One step: weight of the Dice loss of decoded pixels, one minus twice the overlap over the
    sum."""

    boundary: NonNegativeFloat = 0.0
    """One step: weight of the cross-entropy of decoded pixels near a mask's edge."""

    boundary_width: PositiveInt = 8
    """Pixels on each side of an edge that are near it."""

    logit_mean: float = 0.0
    """Diffusion: mean of the logit of the noise's share, which is normally distributed."""

    logit_std: PositiveFloat = 1.0
    """Diffusion: standard deviation of it."""

    shift: PositiveFloat = 3.0
    """Diffusion: how far shares are shifted towards noise, s to shift s / (1 + (shift - 1) s)."""

    @property
    def decodes(self) -> bool:
        """Whether a term needs decoded pixels."""
        return self.bce > 0 or self.dice > 0 or self.boundary > 0

    @property
    def flow_shift(self) -> float | None:
        """The shift of diffusion; None of one step."""
        return self.shift if self.method == "diffusion" else None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.method == "diffusion" and self.decodes:
            yield "method", "diffusion predicts no mask to decode: set bce, dice and boundary to 0"
        if self.latent_mse == 0 and not self.decodes:
            yield "latent_mse", "nothing is left to learn from: give a term a weight"


@recipe
class MaskSampler(Section):
    """How validation and pictures predict masks."""

    steps: PositiveInt = 100
    """Diffusion: steps from noise to the mask, by Euler's method; one step needs none."""


@recipe
class OffloadedZero3(DeepSpeed):
    """ZeRO-3 with the optimizer on the host, as published."""

    zero_stage: Literal[0, 1, 2, 3] = 3
    offload_optimizer: Literal["cpu"] | None = "cpu"


@recipe
class Zero2(DeepSpeed):
    """ZeRO-2 without offload, where a device holds the weights and its part of the rest."""

    zero_stage: Literal[0, 1, 2, 3] = 2


@recipe
class PlainDataParallel(DeepSpeed):
    """Nothing spread, nothing offloaded: for devices that hold all of the state."""


@recipe
class FourL4(Hardware):
    """Four L4 (24 GB) and about 100 GB of host memory, as published."""

    processes: PositiveInt = 4
    micro_batch: PositiveInt = 4
    gradient_checkpointing: bool = True
    device_memory_gib: PositiveFloat = 22.0
    host_memory_gib: PositiveFloat | None = 93.0


@recipe
class FourA40(FourL4):
    """Four A40 (48 GB), as published too: with OffloadedZero3, or with Zero2."""

    device_memory_gib: PositiveFloat = 44.0


@recipe
class OneGpu80(Hardware):
    """One GPU of 80 GB, as PlainDataParallel: all of the state takes less than half of it."""

    processes: PositiveInt = 1
    micro_batch: PositiveInt = 4
    gradient_checkpointing: bool = True


@recipe
class FourGpus80(OneGpu80):
    """Four such, likewise."""

    processes: PositiveInt = 4


AnyDeepSpeed: TypeAlias = OffloadedZero3 | Zero2 | PlainDataParallel
AnyHardware: TypeAlias = FourL4 | FourA40 | OneGpu80 | FourGpus80


@recipe
class TransparencyTrain(TrainStage):
    """Fine-tunes the transformer to tell what is transparent."""

    implementation: ClassVar[str] = "seethrough.tasks.transparency:Transparency"
    outputs: ClassVar[tuple[str, ...]] = ("transformer",)
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "model.base": ("transformer", "vae"),
        "model.transformer": TRANSFORMER_FILES,
    }

    model: TransparencyModel = TransparencyModel()
    """Networks."""

    data: TransparencyData = change(TransparencyData, global_batch=32)
    """Samples; 32 is 4 on each of four GPUs, twice accumulated."""

    objective: TransparencyObjective = TransparencyObjective()
    """Loss."""

    optim: AnyOptim = change(AdamW, lr=2e-6, lr_scaling="global_batch", weight_decay=0.0, eps=1e-15)
    """Optimizer."""

    schedule: Schedule = change(
        Schedule,
        max_steps=6751,
        lr_schedule="cosine_wave",
        warmup_steps=0,
        warmup_epochs=1.0,
        periods=3.5,
        floor=0.1,
        checkpoint_every=157,
        keep_checkpoints=3,
        pictures_every=157,
    )
    """43 epochs of 5000 photos; the published checkpoint is that of step 5966, an epoch after a
    peak of the learning rate."""

    sampler: Execution[MaskSampler] = MaskSampler()
    """How validation and pictures predict masks."""

    deepspeed: Execution[AnyDeepSpeed] = change(OffloadedZero3)
    """Distribution of the state."""

    hardware: Execution[AnyHardware] = change(FourL4)
    """Machine."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if (self.schedule.validate_every is None) != (self.data.validation is None):
            yield "schedule.validate_every", "goes together with data.validation: give both or none"
        if self.objective.decodes and self.data.classes == "apart":
            yield "data.classes", "decoded pixels have one class: merge them, or weigh no pixels"

    @property
    def network(self) -> Source:
        return self.model.transformer or self.model.base

    @property
    def parameters(self) -> int | None:
        return PARAMETERS if self.model.base == SD35_MEDIUM else None


@recipe
class Lora(Section):
    """Low-rank updates of the transformer's linear layers (Hu et al., 2021)."""

    rank: PositiveInt = 64
    """Rank of each update."""

    alpha: PositiveFloat = 64.0
    """An update is scaled by this over its rank."""

    targets: tuple[str, ...] = tuple(ATTENTION_LAYERS)
    """Ends of the names of the layers that are updated; by default all of attention."""


@recipe
class TransparencyLoraTrain(TransparencyTrain):
    """Fine-tunes low-rank updates of the transformer; its own weights stay.

    Leaves the transformer with the updates added, and the updates alone.
    """

    implementation: ClassVar[str] = "seethrough.tasks.transparency:TransparencyLora"
    outputs: ClassVar[tuple[str, ...]] = ("transformer", "lora")

    lora: Lora = Lora()
    """Which updates."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.objective.method == "diffusion" and self.model.transformer is None:
            yield (
                "model.transformer",
                "a base stays blind to the photo in diffusion, as its first layer is not updated: "
                "give a transformer that was trained so, or method=one_step",
            )

    @property
    def trained_parameters(self) -> int | None:
        if self.model.base != SD35_MEDIUM or not set(self.lora.targets) <= set(ATTENTION_LAYERS):
            return None
        layers = sum(ATTENTION_LAYERS[target] for target in set(self.lora.targets))
        return layers * self.lora.rank * 2 * WIDTH


@recipe
class TransparencyChain(Experiment):
    """The empty prompt, and the training."""

    prompt: EmptyPrompt = EmptyPrompt()
    """Encodes the empty prompt."""

    train: TransparencyTrain = TransparencyTrain()
    """Trains the transformer."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.prompt.base != self.train.model.base:
            yield "prompt.base", "train.model.base is another: its transformer knows other text"

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.transparency_rehearsal import rehearse

        return rehearse(self)


@recipe
class TransparencyLoraChain(TransparencyChain):
    """The same, with low-rank updates."""

    train: TransparencyLoraTrain = change(TransparencyLoraTrain)
