"""Training of the autoencoder that carries transparency."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.recipe import (
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    Source,
    change,
    recipe,
)
from seethrough.recipes.layer_data import LayerData, check_validation
from seethrough.recipes.training import Schedule, TrainStage


@recipe
class TransparentVaeModel(Section):
    """The autoencoder, the offset encoder and the pixel decoder."""

    vae: Source | None = None
    """A trained autoencoder to go on from, with transparent_vae; none makes both new. What is given
    has widths of its own, and keeps its scaling factor."""

    transparent_vae: Source | None = None
    """The trained TransparentVAE that belongs to it."""

    learn: Literal["all", "decoders", "pixel_decoder", "vae_decoder", "transparent_vae"] = "all"
    """What to train: all networks, or only parts of those given: their decoders, or one of these,
    so that latents stay as they are; or offset encoder and pixel decoder, around an autoencoder
    that stays as it is."""

    vae_channels: tuple[PositiveInt, ...] = (128, 256, 512, 512)
    """Channels of the autoencoder's levels (AutoencoderKL; each but the last halves the side)."""

    vae_layers: PositiveInt = 2
    """Residual blocks a level of the autoencoder."""

    vae_norm_groups: PositiveInt = 32
    """Groups of the autoencoder's normalisation."""

    latent_channels: PositiveInt = 4
    """Channels of the latents."""

    initial_log_variance: float = -4.0
    """Bias that the posterior's log variance starts from: near 0 a new posterior's noise drowns
    its mean."""

    scaled_std: PositiveFloat = 1.0
    """Standard deviation that the scaling factor gives to the latents of layers and pages."""

    encoder_channels: tuple[PositiveInt, ...] = (32, 64, 128, 256)
    """Channels of the offset encoder at full, half, quarter and eighth resolution."""

    decoder_channels: tuple[PositiveInt, ...] = (32, 32, 64, 128, 256, 512, 512)
    """Channels of the pixel decoder's seven levels (UNet1024 of LayerDiffuse)."""

    decoder_layers: PositiveInt = 2
    """Residual blocks a level of the pixel decoder."""

    def check(self) -> Iterator[tuple[str, str]]:
        if (self.vae is None) != (self.transparent_vae is None):
            yield "transparent_vae", "give it and vae, which belong together, or neither"
        if self.learn != "all" and self.vae is None:
            yield "learn", f"'{self.learn}' goes on from networks that are trained: give vae"

    @property
    def learns_offset(self) -> bool:
        """Whether the offset encoder is among what is trained."""
        return self.learn in ("all", "transparent_vae")


@recipe
class TransparentVaeData(LayerData):
    """Layers and pages as training pictures."""

    page_probability: Fraction = 0.1
    """Probability of the page in place of the layer."""

    silhouette_probability: Fraction = 0.0
    """Probability that a layer is shown as its silhouette: in one gray on white, on another gray or
    on the same, as depths of drawn layers look. For an autoencoder that is to carry depth too."""

    empty_probability: Fraction = 0.0
    """Probability that a layer is shown as an empty picture, as absent layers are: a decoder that
    never saw one shows specks in it."""


@recipe
class TransparentVaeLoss(Section):
    """Weights of the loss terms; a term of weight 0 is not computed."""

    alpha_l1: NonNegativeFloat = 1.0
    """Mean absolute error of alpha."""

    alpha_mse: NonNegativeFloat = 1.0
    """Mean squared error of alpha."""

    alpha_dice: NonNegativeFloat = 0.5
    """Dice loss of alpha: one minus twice the overlap over the sum."""

    color_l1: NonNegativeFloat = 0.5
    """Mean absolute error of straight colour where alpha is, weighted by alpha."""

    color_mse: NonNegativeFloat = 0.5
    """Mean squared error of straight colour, likewise."""

    base_l1: NonNegativeFloat = 1.0
    """Mean absolute error of the autoencoder's own picture: colour over mid-gray, in [-1, 1]."""

    base_mse: NonNegativeFloat = 1.0
    """Mean squared error of the autoencoder's own picture."""

    kl: NonNegativeFloat = 1e-6
    """Kullback-Leibler divergence of the posterior from the standard normal, a latent element."""

    identity: NonNegativeFloat = 1.0
    """Mean squared change that the offset causes in the autoencoder's own picture."""


@recipe
class TransparentVaeTrain(TrainStage):
    """Trains AutoencoderKL and TransparentVAE together, from new weights or given ones.

    Both halves see `(2 * rgb - 1) * alpha`; the pixel decoder gets the decoded picture and the
    latents, and gives alpha and colour.
    """

    implementation: ClassVar[str] = "seethrough.tasks.transparent_vae:TransparentVaeTask"
    outputs: ClassVar[tuple[str, ...]] = ("vae", "transparent_vae")

    model: TransparentVaeModel = TransparentVaeModel()
    """Networks."""

    data: TransparentVaeData = change(TransparentVaeData, global_batch=64)
    """Pictures."""

    loss: TransparentVaeLoss = TransparentVaeLoss()
    """Loss terms."""

    schedule: Schedule = change(Schedule, lr_schedule="cosine")
    """Length and learning rate."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from check_validation(self.schedule, self.data)
        if self.loss.identity and not self.model.learns_offset:
            learn = self.model.learn
            yield "loss.identity", f"trains the offset encoder, which learn='{learn}' leaves: set 0"
