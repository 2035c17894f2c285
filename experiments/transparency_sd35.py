"""Transparency in one step: Stable Diffusion 3.5 medium, all of it fine-tuned end to end.

Hypothesis: a model that draws photos of glass has what it takes to find it; told to give the
mask's latents at once, it learns where glass is as well as its edge.
Base: the published configuration, whole; its authors report an IoU of 0.88 of the test photos, a
mean over images with both classes merged, which no other published number is measured like.
Cost: 6751 steps of 32 photos at 1024 px. A forward pass takes about 10.8 TFLOP a photo, and the
autoencoder encodes photo and mask too; `plan --memory` has the memory.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.training import Schedule
from seethrough.recipes.transparency import TransparencyChain, TransparencyData, TransparencyTrain

TRANS10K = Local("Trans10K")


@recipe
class TransparencySD35(TransparencyChain):
    """Trans10K, version 1, in a data root: how to get it says `python -m seethrough.trans10k`.

    On other machines: --train.hardware=FourA40 --train.deepspeed=Zero2, or OneGpu80 or FourGpus80
    with --train.deepspeed=PlainDataParallel, where nothing needs to be spread or offloaded.
    """

    train: TransparencyTrain = change(
        TransparencyTrain,
        data=change(TransparencyData, sources=((TRANS10K, 1),), validation=TRANS10K),
        schedule=change(Schedule, validate_every=157),
    )
