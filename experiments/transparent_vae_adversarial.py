"""The autoencoder that carries transparency, with a discriminator beside all that compares layers.

Hypothesis: told by another network which layers are decoded, the pixel decoder gives back edges
and textures that averages of errors let it blur.
Base: transparent_vae; weight, start and networks are the published ones.
Cost: about half as much again a step, as the last layer's gradients are taken apart.
"""

from experiments.transparent_vae import TransparentVae
from seethrough.recipe import change, recipe
from seethrough.recipes.perceptual_vae import Adversarial, PerceptualVaeTrain


@recipe
class TransparentVaeAdversarial(TransparentVae):
    """A PatchGAN that pulls half as hard as the other terms."""

    train: PerceptualVaeTrain = change(
        PerceptualVaeTrain, adversarial=change(Adversarial, weight=0.5)
    )
