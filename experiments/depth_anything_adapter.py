"""Depth of a page, and of a layer's hidden part: Depth Anything V2 with a control adapter.

Hypothesis: a model of photographed depth learns depth in drawing order from few steps; told the
depth of what is seen of a layer, it continues it to what other layers hide.
Base: the published configuration of the plain network, at its values. The published adapter can't
run, so its share of samples is ours, and no number of it is known.
Cost: 100 steps of one picture at 518 px; the state of training takes 6 GiB of a GPU, activations
are not measured.
"""

from experiments.marigold_depth import HELD_OUT, SAMPLES
from seethrough.recipe import change, recipe
from seethrough.recipes.depth_anything import (
    ControlledDepthData,
    DepthAnythingAdapterChain,
    DepthAnythingAdapterTrain,
)
from seethrough.recipes.training import Schedule


@recipe
class DepthAnythingWithControl(DepthAnythingAdapterChain):
    """Live2D samples alone, with the lists of marigold_depth."""

    train: DepthAnythingAdapterTrain = change(
        DepthAnythingAdapterTrain,
        data=change(ControlledDepthData, sources=((SAMPLES, 1),), validation=HELD_OUT),
        schedule=change(Schedule, validate_every=200),
    )
