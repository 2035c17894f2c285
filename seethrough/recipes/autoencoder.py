"""Training of autoencoders from new weights, in place of pretrained ones."""

from collections.abc import Iterator
from typing import ClassVar

from seethrough.recipe import NonNegativeFloat, PositiveFloat, PositiveInt, Section, change, recipe
from seethrough.recipes.layer_data import PictureData
from seethrough.recipes.training import Schedule, TrainStage
from seethrough.recipes.transparency import TransparencyData
from seethrough.recipes.transparent_vae import TransparentVaeData


@recipe
class AutoencoderModel(Section):
    """Widths of the autoencoder (AutoencoderKL)."""

    channels: tuple[PositiveInt, ...] = (128, 256, 512, 512)
    """Channels of its levels; each but the last halves the side."""

    layers: PositiveInt = 2
    """Residual blocks a level."""

    norm_groups: PositiveInt = 32
    """Groups of its normalisation."""

    latent_channels: PositiveInt = 16
    """Channels of the latents."""

    initial_log_variance: float = -4.0
    """Bias that the posterior's log variance starts from: near 0 a new posterior's noise drowns
    its mean."""

    kl: NonNegativeFloat = 1e-3
    """Weight of the Kullback-Leibler divergence of the posterior from the standard normal, a
    latent element, beside the absolute and the squared error of pictures in [-1, 1]."""

    scaled_std: PositiveFloat = 1.0
    """Standard deviation that the scaling factor gives to latents."""


@recipe
class PhotoVaeTrain(TrainStage):
    """Trains an autoencoder on photos, and on their masks as pictures, from new weights."""

    implementation: ClassVar[str] = "seethrough.tasks.autoencoder:PhotoVae"
    outputs: ClassVar[tuple[str, ...]] = ("vae",)

    model: AutoencoderModel = AutoencoderModel()
    """Network and loss, in SD3's form: a shift takes the mean of the latents."""

    data: TransparencyData = change(TransparencyData, global_batch=32)
    """Samples: each is two pictures."""

    schedule: Schedule = change(Schedule, lr_schedule="cosine")
    """Length and learning rate."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from _check_unmeasured(self.data, self.schedule)


@recipe
class LayerVaeTrain(TrainStage):
    """Trains an autoencoder on layers and pages over mid-gray, and on silhouettes of layers, which
    look as depths do, from new weights."""

    implementation: ClassVar[str] = "seethrough.tasks.autoencoder:LayerVae"
    outputs: ClassVar[tuple[str, ...]] = ("vae",)

    model: AutoencoderModel = AutoencoderModel()
    """Network and loss, in SD2's form."""

    data: TransparentVaeData = change(TransparentVaeData, global_batch=32)
    """Pictures."""

    schedule: Schedule = change(Schedule, lr_schedule="cosine")
    """Length and learning rate."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        yield from _check_unmeasured(self.data, self.schedule)


def _check_unmeasured(
    data: PictureData | TransparencyData, schedule: Schedule
) -> Iterator[tuple[str, str]]:
    if data.validation is not None or schedule.validate_every is not None:
        yield (
            "data.validation",
            "this stage measures nothing: set it and schedule.validate_every to none",
        )
