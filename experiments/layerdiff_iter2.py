"""LayerDiff 2D on two sources: Live2D samples and synthetic samples made from illustrations.

Hypothesis: synthetic samples widen the styles, and repeating the true ones 16 times keeps them
in charge.
Base: the published second iteration.
Cost: as the 2D stage of layerdiff3d_v3.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.layerdiff import LayerDiff2DChain, LayerDiff2DData, LayerDiff2DTrain


@recipe
class LayerDiffIter2(LayerDiff2DChain):
    """Live2D x 16, synthetic x 1."""

    train_2d: LayerDiff2DTrain = change(
        LayerDiff2DTrain,
        data=change(
            LayerDiff2DData,
            sources=(
                (Local("l2d_bodysamples_v3.txt"), 16),
                (Local("danbooru_synsamples.txt"), 1),
            ),
        ),
    )
