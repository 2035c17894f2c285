"""Depth of a flat page in drawing order: Marigold for pictures, fine-tuned on rendered characters.

Hypothesis: depth in drawing order is a kind of depth, so that a model of photographed depth learns
it from few samples.
Base: the published 2D configuration. Its length is 200 epochs; its authors went on from step
20,000.
Cost: 20,000 steps of 16 pages at 768 px; the state of training takes 15 GiB of a GPU, activations
are not measured.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.marigold import Marigold2DChain, Marigold2DData, Marigold2DTrain
from seethrough.recipes.training import Schedule

SAMPLES = Local("l2d_bodysamples_v3.txt")
HELD_OUT = Local("l2d_bodysamples_v3_test.txt")


@recipe
class MarigoldDepth(Marigold2DChain):
    """Live2D samples alone. The lists, and that of held-out pages, are ours.

    The lists lie in a data root: in workspace/datasets, or where environment.data_roots says.
    """

    train_2d: Marigold2DTrain = change(
        Marigold2DTrain,
        data=change(Marigold2DData, sources=((SAMPLES, 1),), validation=HELD_OUT),
        schedule=change(Schedule, validate_every=2000),
    )
