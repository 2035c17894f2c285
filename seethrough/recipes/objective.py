"""What the diffusion models are trained to predict, and how errors weigh.

Values are those of the published configurations: of LayerDiff V3, and of Marigold.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from seethrough.recipe import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    recipe,
)


@recipe
class TimestepWeights(Section):
    """Which timesteps are drawn, and how errors at them weigh; every family has these."""

    snr_gamma: PositiveFloat | None = None
    """Min-SNR weighting (Hang et al., 2023): weights follow min(SNR, gamma); none weighs alike."""

    timestep_bias: Literal["none", "earlier", "later", "range"] = "none"
    """Which timesteps are drawn more often than others; 'earlier' are the less noisy ones."""

    timestep_bias_multiplier: PositiveFloat = 1.0
    """How much more often the favoured timesteps are drawn."""

    timestep_bias_portion: Fraction = 0.25
    """Earlier and later: favoured share of all timesteps."""

    timestep_bias_range: tuple[NonNegativeInt, PositiveInt] = (0, 1000)
    """Range: first favoured timestep, and the first one after."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.timestep_bias == "range":
            begin, end = self.timestep_bias_range
            if not begin < end <= 1000:
                yield "timestep_bias_range", "needs first < end <= 1000"


@recipe
class Objective(TimestepWeights):
    """What LayerDiff is trained to predict, and how errors weigh."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    """What the network predicts: the noise, the velocity, or the clean latents."""

    snr_gamma: PositiveFloat | None = 5.0

    noise_offset: NonNegativeFloat = 0.0
    """Size of noise that is constant over a channel of a frame, added to the noise."""

    empty_prompt_probability: Fraction = 0.0
    """Probability, a sample, that its captions are replaced with the empty one."""

    offset_probability: Fraction = 0.25
    """Probability, a sample, that latents carry the transparency offset in place of the
    posterior's noise."""

    posterior: Literal["sample", "mean"] = "sample"
    """Latents without offset: a draw of the autoencoder's posterior, or its mean."""


@recipe
class Objective3D(Objective):
    """The same over the frames of a group."""

    absent_weight: Fraction = 1.0
    """Weight of frames whose tag the character lacks: 1 counts them fully, 0 drops them."""


DepthNoise: TypeAlias = Literal["random", "zeros"]
LAST_TIMESTEP = (999, 1000)
"""The range of the noisiest timestep alone."""

Downscale: TypeAlias = Literal["original", "every_layer", "power_of_two", "random_step"]


@recipe
class MarigoldObjective(TimestepWeights):
    """How depth latents become noisy, and how errors weigh.

    What the network predicts, and the noise schedule, are those of the base's scheduler: the
    velocity, from pure noise at the last timestep, with the published base.
    """

    noise: DepthNoise = "random"
    """What stands where noise is: random numbers, or zeros, for a network that tells depth in one
    step at the last timestep (Martin Garcia et al., "Fine-Tuning Image-Conditional Diffusion Models
    is Easier than You Think", 2025)."""

    noise_strength: Fraction = 0.9
    """Multi-resolution noise: the i-th coarser level of the noise weighs the i-th power of this; 0
    is plain noise."""

    noise_annealed: bool = True
    """Whether the strength falls in proportion to the timestep, to 0 at the first one."""

    noise_downscale: Downscale = "original"
    """How the levels' sides follow each other: halved at 'every_layer'; by powers of 2 that grow
    ('power_of_two'), by random factors in [2, 4) ('random_step'), or by growing powers of these
    ('original')."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        last = self.timestep_bias == "range" and self.timestep_bias_range == LAST_TIMESTEP
        if self.noise == "zeros" and not last:
            yield (
                "noise",
                "zeros leave depth in sight before the last timestep: set timestep_bias to 'range' "
                f"and timestep_bias_range to {LAST_TIMESTEP}",
            )


@recipe
class MarigoldObjective3D(MarigoldObjective):
    """The same over the frames of a character."""

    absent_weight: Fraction = 1.0
    """Weight of frames whose tag the character lacks: 1 counts them fully, 0 drops them."""
