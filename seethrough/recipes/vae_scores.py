"""Measures of the autoencoders that carry transparency, before and after a training."""

from typing import ClassVar

from seethrough.recipe import (
    REQUIRED,
    Execution,
    Fraction,
    Output,
    PositiveInt,
    Source,
    Stage,
    recipe,
)
from seethrough.recipes.training import Device


@recipe
class VaeScores(Stage):
    """Decodes layers that neither was trained on, each in its own box, with both."""

    implementation: ClassVar[str] = "seethrough.tasks.vae_scores:vae_scores_stage"
    outputs: ClassVar[tuple[str, ...]] = ("scores",)

    vae_before: Source = REQUIRED
    """The autoencoder that the training went on from."""

    transparent_vae_before: Source = REQUIRED
    """The TransparentVAE that belonged to it."""

    vae: Source = Output("train", "vae")
    """The autoencoder after the training."""

    transparent_vae: Source = Output("train", "transparent_vae")
    """The TransparentVAE after the training."""

    pages: Source = REQUIRED
    """Sample list of the layers to measure on."""

    target_size: PositiveInt = 512
    """Side of the square picture in px that a layer's box is brought to, a multiple of 32."""

    layers: PositiveInt = 256
    """How many layers at most, of each sample up to four."""

    margin: Fraction = 0.2
    """By what share the mean absolute error of alpha is to fall, while its IoU doesn't: told, and
    kept as the metric `reached`, 1 or 0."""

    hardware: Execution[Device] = Device()
    """Machine."""
