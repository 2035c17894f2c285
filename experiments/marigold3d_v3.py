"""Depth of all layers of a character together: Marigold in 3D, from the 2D model.

Hypothesis: attention across layers, and one scale for the page, make depths of layers compare,
also where they are hidden; the page as a condition tells how they lie over each other.
Base: the published 3D configuration, from weights of marigold_depth. Its authors went on from a
conversion on the hub; here it is this chain's own.
Cost: marigold_depth's, and 20,000 steps of 8 samples of 12, 9 or 20 frames at 768 px; the state of
3D training takes 20 GiB of a GPU, activations are not measured.
"""

from experiments.marigold_depth import HELD_OUT, SAMPLES
from seethrough.recipe import change, recipe
from seethrough.recipes.marigold import (
    Marigold2DData,
    Marigold2DTrain,
    Marigold3DChain,
    Marigold3DData,
    Marigold3DTrain,
    OrderLayers,
)
from seethrough.recipes.training import Schedule


@recipe
class Marigold3DV3(Marigold3DChain):
    """Live2D samples alone, for both stages; the order of layers on those held out."""

    train_2d: Marigold2DTrain = change(
        Marigold2DTrain,
        data=change(Marigold2DData, sources=((SAMPLES, 1),), validation=HELD_OUT),
        schedule=change(Schedule, validate_every=2000),
    )
    train_3d: Marigold3DTrain = change(
        Marigold3DTrain,
        data=change(Marigold3DData, sources=((SAMPLES, 1),), validation=HELD_OUT),
        schedule=change(Schedule, validate_every=2500),
    )
    depth_order: OrderLayers = change(OrderLayers, pages=HELD_OUT, known=SAMPLES)
