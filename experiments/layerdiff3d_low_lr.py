"""Half the learning rate in 3D.

Hypothesis: the blocks across frames learn from zero, and the 2D weights under them drift less
at a lower rate.
Base: layerdiff3d_v3. Cost: the same.
"""

from experiments.layerdiff3d_v3 import LayerDiff3DV3
from seethrough.recipe import change, recipe
from seethrough.recipes.layerdiff import LayerDiff3DTrain
from seethrough.recipes.training import AdamW


@recipe
class LayerDiff3DLowLR(LayerDiff3DV3):
    """4e-5 becomes 2e-5."""

    train_3d: LayerDiff3DTrain = change(LayerDiff3DTrain, optim=change(AdamW, lr=2e-5))
