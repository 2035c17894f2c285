"""LayerDiff 3D with the 23 V3 tags: the published recipe, from SDXL to decomposed pages.

Hypothesis: a tag-by-tag 2D model, given attention across tags, draws all layers of a group
together and agrees with itself where they overlap.
Base: the published V3 configurations (2D at 1024 px, 3D at 1280 px). Their authors converted the
2D checkpoint of step 20,000 of 200,000: --train_2d.schedule.max_steps=20000 stops there.
Cost: 8 H200; a 3D step is about 57 PFLOP of the UNet alone, at 64 samples.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.layerdiff import (
    Decompose,
    LayerDiff2DData,
    LayerDiff2DTrain,
    LayerDiff3DChain,
    LayerDiff3DData,
    LayerDiff3DTrain,
)

SAMPLES = Local("l2d_bodysamples_v3.txt")


@recipe
class LayerDiff3DV3(LayerDiff3DChain):
    """Live2D samples alone, for both stages. The list of held-out pages is ours.

    The lists lie in a data root: in workspace/datasets, or where environment.data_roots says.
    """

    train_2d: LayerDiff2DTrain = change(
        LayerDiff2DTrain,
        data=change(LayerDiff2DData, sources=((SAMPLES, 1),)),
    )
    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain,
        data=change(LayerDiff3DData, sources=((SAMPLES, 1),)),
    )
    decompose: Decompose = change(Decompose, pages=Local("l2d_bodysamples_v3_test.txt"))
