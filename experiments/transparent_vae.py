"""The autoencoder that carries transparency: LayerDiffuse's pixel decoder, tuned on our layers.

Hypothesis: a decoder that was trained on photographs' cut-outs reads the flat colours and hard
edges of drawn layers better after a few thousand of them.
Base: the published configuration, a trial of 100 steps at 512 px; names of its authors' files
tell of 10,000 steps at 1280 px: --train.schedule.max_steps=10000 --train.data.target_size=1280.
Cost: one GPU. It needs torchvision's weights of VGG16 and ConvNeXt-T, from torch's cache or from
the files that --train.loss.vgg16 and --train.loss.convnext_tiny name.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.perceptual_vae import PerceptualVaeTrain, TransparentVaeChain
from seethrough.recipes.transparent_vae import TransparentVaeData


@recipe
class TransparentVae(TransparentVaeChain):
    """Live2D samples; the list lies in a data root."""

    train: PerceptualVaeTrain = change(
        PerceptualVaeTrain,
        data=change(TransparentVaeData, sources=((Local("l2d_bodysamples_v3.txt"), 1),)),
    )
