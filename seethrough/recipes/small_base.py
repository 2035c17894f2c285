"""A small pretrained base, for rehearsals."""

from typing import ClassVar

from seethrough.recipe import Output, PositiveInt, Source, Stage, recipe


@recipe
class SmallBase(Stage):
    """Makes an SDXL-shaped base in the hub's layout: seeded text encoders and UNet, a given VAE."""

    implementation: ClassVar[str] = "seethrough.tasks.small_base:small_base_stage"
    outputs: ClassVar[tuple[str, ...]] = ("base",)

    vae: Source = Output("vae", "vae")
    """The autoencoder to put in."""

    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 64, 64)
    """Channels of the UNet's levels; the first has no attention, as in SDXL."""

    layers: PositiveInt = 1
    """Residual blocks a level."""

    transformer_layers: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)
    """Transformer blocks of each attention, by level."""

    heads: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 2, 2)
    """Attention heads by level."""

    norm_groups: PositiveInt = 16
    """Groups of the UNet's normalisation."""

    text_widths: tuple[PositiveInt, PositiveInt] = (32, 32)
    """Widths of the two text encoders."""

    text_length: PositiveInt = 16
    """Tokens a caption is padded to (77 in SDXL): tags are short, and each token costs."""

    seed: int = 3
    """Seed of all weights that are not given."""
