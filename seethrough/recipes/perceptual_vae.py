"""Training of the autoencoder that carries transparency, judged by what is seen.

Values are those of the published program where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.recipe import (
    Execution,
    Experiment,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Source,
    change,
    recipe,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.layerdiff import ANIMAGINE, LAYERDIFFUSE
from seethrough.recipes.training import AdamW, AnyOptim, Schedule
from seethrough.recipes.transparent_vae import (
    TransparentVaeData,
    TransparentVaeLoss,
    TransparentVaeModel,
    TransparentVaeTrain,
)

OF_LAYERS = ("alpha_l1", "alpha_mse", "alpha_dice", "color_l1", "color_mse")
"""Terms of the loss that only the pixel decoder's layers have."""

OF_CHANNELS = ("argb_l1", "argb_mse", "argb_huber")
"""Terms of all channels of what is compared."""

OF_PICTURES = (*OF_CHANNELS, "composite_l1", "composite_mse", "lpips", "convnext")
"""Terms of whatever is compared."""


@recipe
class PerceptualVaeLoss(TransparentVaeLoss):
    """Weights of the loss terms; one of weight 0 is left out.

    What is compared is the layer that the pixel decoder gives, ARGB, with the true one. Where the
    autoencoder's decoder learns alone it is its picture, RGB, with what the autoencoder was shown.
    Composites lay both over the same background.
    """

    alpha_l1: NonNegativeFloat = 0.0
    alpha_mse: NonNegativeFloat = 0.0
    alpha_dice: NonNegativeFloat = 0.0
    color_l1: NonNegativeFloat = 0.0
    color_mse: NonNegativeFloat = 0.0
    base_l1: NonNegativeFloat = 0.0
    base_mse: NonNegativeFloat = 0.0
    kl: NonNegativeFloat = 0.0
    identity: NonNegativeFloat = 0.0

    argb_l1: NonNegativeFloat = 0.0
    """Mean absolute error of all channels, alpha among them."""

    argb_mse: NonNegativeFloat = 0.125
    """Mean squared error of all channels."""

    argb_huber: NonNegativeFloat = 0.0
    """Mean Huber loss of all channels: half the square up to 1."""

    composite_l1: NonNegativeFloat = 0.0
    """Mean absolute error of composites."""

    composite_mse: NonNegativeFloat = 0.0
    """Mean squared error of composites."""

    lpips: NonNegativeFloat = 0.15
    """LPIPS of composites, with VGG16."""

    convnext: NonNegativeFloat = 0.225
    """Distance of composites in features of ConvNeXt-T."""

    vgg16: Source | None = None
    """File with torchvision's weights of VGG16; none takes torch's cache."""

    convnext_tiny: Source | None = None
    """File with torchvision's weights of ConvNeXt-T; none takes torch's cache."""

    backgrounds: tuple[Literal["noise", "color"], ...] = ("noise",)
    """What composites lie over, each as often: noise around mid-gray, or one colour. The published
    noise has a mean of 0 in the range from 0 to 1, which no network was trained on."""

    color_space: Literal["srgb", "oklab"] = "srgb"
    """In which colours are compared pixel by pixel, as they are or as they look."""

    alpha_reweight: PositiveFloat | None = None
    """Weigh colour by so many times the true alpha, in the terms of all channels and in what the
    discriminator judges; none weighs every pixel alike, which the published 1 stands for."""

    offset_probability: Fraction = 0.0
    """Probability that latents carry the offset in place of the posterior's noise."""

    def check(self) -> Iterator[tuple[str, str]]:
        if not self.backgrounds:
            yield "backgrounds", "needs at least one"


@recipe
class LatentNoise(Section):
    """Noise on the latents that decoders learn from: what a diffusion model gives them is never
    quite what the encoder gave."""

    probability: Fraction = 0.0
    """Probability that the latents of a sample have it; published: 0."""

    below_step: PositiveInt = 1
    """How strong it is: as at a step of SDXL's diffusion, drawn evenly from 1 to below this one,
    of 1000. Published: 1, below which there is none."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.probability and not 1 < self.below_step <= 1000:
            yield "below_step", f"from 2 to 1000 where there is noise, found {self.below_step}"


@recipe
class Adversarial(Section):
    """A discriminator that learns to tell decoded layers from true ones, and what it teaches."""

    weight: NonNegativeFloat = 0.0
    """How hard it pulls at the last layer of a decoder, beside all that compares layers: 1 as hard;
    0 has no discriminator. Published, where there is one: 0.5."""

    discriminator: Literal["nlayer", "unet_sn"] = "nlayer"
    """PatchGAN, which judges patches, or a UNet under spectral normalisation, which judges
    pixels."""

    loss: Literal["hinge", "vanilla"] = "hinge"
    """What the discriminator learns from: hinge loss or cross-entropy."""

    start_step: NonNegativeInt = 1
    """First step, from 0, at which the decoder hears of it; the discriminator learns from the first
    step on."""

    channels: PositiveInt = 64
    """Channels of its first level, a multiple of 32."""

    layers: PositiveInt = 3
    """PatchGAN: layers after the first; 3 judge patches of 70 px."""

    lr: PositiveFloat = 3e-5
    """Its peak learning rate, on the same schedule."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of its optimizer's moments (AdamW)."""

    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""

    max_grad_norm: PositiveFloat | None = 1.0
    """Clip its gradient's global norm to this; none leaves it alone."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.channels % 32:
            yield "channels", f"{self.channels} is no multiple of 32, its normalisation's groups"


@recipe
class Kepler(Section):
    """A codebook that draws latents towards few values: a regulariser, not a bottleneck.

    Decoders get the latents as they are. Only an encoder that learns is drawn anywhere; beside
    frozen ones the codebook learns what their latents are like.
    """

    weight: NonNegativeFloat = 0.0
    """Weight of the mean squared distance from the nearest codes; 0 has no codebook. No published
    program uses one."""

    codes: PositiveInt = 1024
    """Codes of the codebook."""

    groups: PositiveInt = 4
    """Groups that channels are cut into; each group's vector has a code."""

    beta: NonNegativeFloat = 0.25
    """How hard codes are drawn to latents, beside latents to codes of 1."""

    prior_weight: NonNegativeFloat = 1e-8
    """Weight of the divergence of a sample's codes from the binary numbers."""


@recipe
class PerceptualVaeTrain(TransparentVaeTrain):
    """Trains parts of the autoencoders, or all, with losses of perception and a discriminator.

    As published the autoencoder of SDXL is frozen and LayerDiffuse's pixel decoder learns, one
    layer at a time in its own box.
    """

    implementation: ClassVar[str] = "seethrough.tasks.perceptual_vae:PerceptualVaeTask"

    model: TransparentVaeModel = change(
        TransparentVaeModel, vae=ANIMAGINE, transparent_vae=LAYERDIFFUSE, learn="pixel_decoder"
    )
    """Networks: folders of these, or of bases that hold them."""

    data: TransparentVaeData = change(
        TransparentVaeData,
        global_batch=1,
        target_size=512,
        random_flip=0.0,
        random_pad=0.0,
        page_alpha="character",
        size_groups=(),
    )
    """Pictures. A page is shown in the crop of its layer; published ones show the whole
    character."""

    loss: PerceptualVaeLoss = change(PerceptualVaeLoss)
    """Loss terms."""

    latent_noise: LatentNoise = LatentNoise()
    """Noise on latents."""

    adversarial: Adversarial = Adversarial()
    """Discriminator."""

    kepler: Kepler = Kepler()
    """Codebook."""

    optim: AnyOptim = change(AdamW, lr=3e-5, precision="fp32")
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=100, lr_schedule="constant", warmup_steps=10, pictures_every=200
    )
    """Length and learning rate: the published file is a trial of 100 steps."""

    @property
    def opponent_optim(self) -> AdamW | None:
        """The discriminator's."""
        section = self.adversarial
        if section.weight == 0:
            return None
        return AdamW(
            lr=section.lr,
            betas=section.betas,
            weight_decay=section.weight_decay,
            max_grad_norm=section.max_grad_norm,
        )

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.model.learn == "vae_decoder":
            for name in OF_LAYERS:
                if getattr(self.loss, name):
                    yield f"loss.{name}", "needs the pixel decoder, which this leaves out: set 0"
        if not any(getattr(self.loss, name) for name in (*OF_LAYERS, *OF_PICTURES)):
            yield "loss", "compares nothing that is decoded: give one of its terms a weight"
        if self.loss.alpha_reweight is not None:
            yield from self._check_reweight()
        if self.latent_noise.probability and self.model.vae is None:
            yield "latent_noise.probability", "needs latents of a known scale: give model.vae"
        if self.kepler.weight and self.model.latent_channels % self.kepler.groups:
            channels = self.model.latent_channels
            yield "kepler.groups", f"{channels} channels of latents can't be cut into so many"

    def _check_reweight(self) -> Iterator[tuple[str, str]]:
        path = "loss.alpha_reweight"
        if self.model.learn == "vae_decoder":
            yield path, "weighs layers, and the pixel decoder is left out: set it to none"
        if (
            not any(getattr(self.loss, name) for name in OF_CHANNELS)
            and not self.adversarial.weight
        ):
            yield path, f"weighs {', '.join(OF_CHANNELS)} and a discriminator, and there is none"


@recipe
class TransparentVaeChain(Experiment):
    """Training of the autoencoders."""

    train: PerceptualVaeTrain = PerceptualVaeTrain()
    """The training."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule names the classes of this file.
        from seethrough.recipes.perceptual_vae_rehearsal import rehearse

        return rehearse(self)
