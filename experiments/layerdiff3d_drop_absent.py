"""Absent frames left out of the 3D loss.

Hypothesis: most frames of a group are absent in most characters, and predicting their emptiness
takes a large share of the gradient.
Base: layerdiff3d_v3. Cost: the same.
"""

from experiments.layerdiff3d_v3 import LayerDiff3DV3
from seethrough.recipe import change, recipe
from seethrough.recipes.layerdiff import LayerDiff3DTrain
from seethrough.recipes.objective import Objective3D


@recipe
class LayerDiff3DDropAbsent(LayerDiff3DV3):
    """Absent frames weigh nothing."""

    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain, objective=change(Objective3D, absent_weight=0.0)
    )
