"""What the commands of `seethrough.checkpoint` may be given. Imports no torch."""

from typing import Literal

from seethrough.recipe import NonNegativeFloat, PositiveFloat, PositiveInt, Section, recipe


@recipe
class Inspect(Section):
    """What to tell."""

    keys: bool = False
    """Name every tensor with its type and shape, in place of a line for each part of the
    network."""


@recipe
class Convert(Section):
    """What to write."""

    dtype: Literal["keep", "fp32", "bf16", "fp16", "nf4"] = "keep"
    """Type of the weights. nf4 packs linear layers to 4 bits and makes the rest bf16, in a pipeline
    of its unet or transformer alone; from packed weights any other type can be had, with the error
    of packing."""

    config: str | None = None
    """Folder of the model, or its config.json, that a folder is written with where the source has
    none of its own. For a combined checkpoint of autoencoders: a folder with `vae` and
    `trans_vae`."""

    shard_gb: PositiveFloat = 10.0
    """Largest file of a folder in GB."""


@recipe
class Compare(Section):
    """What counts, and how much is told."""

    tolerance: NonNegativeFloat = 0.0
    """Largest absolute difference that counts as none."""

    rows: PositiveInt = 20
    """Tensors that are named, those with the largest differences first."""


@recipe
class Verify(Section):
    """Nothing to choose."""
