"""Small bases, in place of pretrained ones."""

from collections.abc import Iterator
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


@recipe
class SmallMarigold(Stage):
    """Makes a base like Marigold's in the hub's layout: seeded weights around a given VAE."""

    implementation: ClassVar[str] = "seethrough.tasks.small_base:small_marigold_stage"
    outputs: ClassVar[tuple[str, ...]] = ("base",)

    vae: Source = Output("vae", "vae")
    """The autoencoder to put in."""

    channels: tuple[PositiveInt, ...] = (64, 64, 64)
    """Channels of the UNet's levels; the last has no attention, as in SD2."""

    layers: PositiveInt = 1
    """Residual blocks a level."""

    heads: tuple[PositiveInt, ...] = (1, 2, 2)
    """Attention heads by level."""

    norm_groups: PositiveInt = 16
    """Groups of the UNet's normalisation."""

    text_width: PositiveInt = 32
    """Width of the text encoder."""

    seed: int = 3
    """Seed of all weights that are not given."""

    def check(self) -> Iterator[tuple[str, str]]:
        if len(self.heads) != len(self.channels):
            yield "heads", f"{len(self.heads)} numbers for {len(self.channels)} levels"


@recipe
class SmallSD3(Stage):
    """Makes a base like Stable Diffusion 3.5's in the hub's layout: seeded weights around a VAE."""

    implementation: ClassVar[str] = "seethrough.tasks.small_base:small_sd3_stage"
    outputs: ClassVar[tuple[str, ...]] = ("base",)

    vae: Source = Output("vae", "vae")
    """The autoencoder to put in."""

    heads: PositiveInt = 4
    """Attention heads of the transformer."""

    head_channels: PositiveInt = 32
    """Width of a head."""

    layers: PositiveInt = 6
    """Transformer blocks; the first half attends twice, as in SD3.5 medium."""

    positions: PositiveInt = 32
    """Side in tokens of the largest picture."""

    text_widths: tuple[PositiveInt, PositiveInt] = (16, 16)
    """Widths of the two text encoders."""

    text_length: PositiveInt = 4
    """Tokens a caption is padded to (77 in SD3): each costs, and none is ever read."""

    seed: int = 3
    """Seed of all weights that are not given."""
