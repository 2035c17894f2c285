"""The 19 V2 tags in one pass: hair and eyes whole, no head crop, no group embedding.

Hypothesis: fewer and larger layers are easier to draw, and one pass over all of them agrees with
itself better than two; small parts of the face pay for it, which the head pass enlarges.
Base: layerdiff3d_v3. Samples that store hair and eyes in parts give them drawn over each other.
Cost: a 3D step about 1.6 times as much, at 19 frames a sample in place of 13 or 11 by turns.
"""

from experiments.layerdiff3d_v3 import LayerDiff3DV3
from seethrough.data.tags import TAGS_V2
from seethrough.recipe import change, recipe
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.layer_data import BODY_SIZE_GROUP
from seethrough.recipes.layerdiff import (
    LayerDiff2DData,
    LayerDiff2DTrain,
    LayerDiff3DData,
    LayerDiff3DTrain,
)

HEAD_SIZE_GROUP = tuple(tag for tag in TAGS_V2 if tag not in BODY_SIZE_GROUP)


@recipe
class LayerDiff3DV2(LayerDiff3DV3):
    """The tags and the flow of the first published models."""

    train_2d: LayerDiff2DTrain = change(
        LayerDiff2DTrain,
        data=change(
            LayerDiff2DData,
            tags=TAGS_V2,
            size_groups=(HEAD_SIZE_GROUP, BODY_SIZE_GROUP, TAGS_V2),
        ),
    )
    inflate: Inflate = change(
        Inflate, tag_version="v2", group_embedding=False, group_sizes=(len(TAGS_V2),)
    )
    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain, data=change(LayerDiff3DData, groups=(TAGS_V2,))
    )
