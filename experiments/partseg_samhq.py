"""Body parts of a character's picture: SAM-HQ, all of it fine-tuned, without prompts.

Hypothesis: a model that finds the outline of anything learns from few samples which outline is
which part.
Base: the published configuration, mended: its file can't be read, and its two halves disagree. The
classes are those of the dataset, 23, where the model had 19; pages lie in the middle of their
square, as in use.
Cost: 18,000 steps of 32 pages at 1024 px with ViT-H (648 million parameters).
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.partseg import PartSegChain, PartSegData, PartSegTrain
from seethrough.recipes.training import Schedule

SAMPLES = Local("l2d_bodysamples_v3.txt")
HELD_OUT = Local("l2d_bodysamples_v3_test.txt")


@recipe
class PartSegSamHQ(PartSegChain):
    """Live2D samples. The lists, and that of held-out pages, are ours.

    They lie in a data root, and so does SAM-HQ: `hf download lkeab/hq-sam sam_hq_vit_h.pth
    --local-dir workspace/datasets`.
    """

    train: PartSegTrain = change(
        PartSegTrain,
        data=change(PartSegData, sources=((SAMPLES, 1),), validation=HELD_OUT),
        schedule=change(Schedule, validate_every=2000),
    )
