"""The CPU-sized twin of an autoencoder's training: the same stage and code, on drawn characters.

The networks to go on from are made in front, from new weights. Networks of perception can't be
made: the pixels of composites stand in for them.
"""

from seethrough.recipe import change, evolve, recipe
from seethrough.recipes.perceptual_vae import PerceptualVaeTrain, TransparentVaeChain
from seethrough.recipes.stand_ins import (
    SIDE,
    TEST_LIST,
    TRAIN_LIST,
    TRANSPARENT_VAE,
    VAE,
    DrawnSamples,
    shortened,
)
from seethrough.recipes.training import Device, Schedule
from seethrough.recipes.transparent_vae import TransparentVaeData, TransparentVaeTrain
from seethrough.recipes.vae_scores import VaeScores

STEPS_BEFORE, STEPS = 200, 300
"""Of the networks in front, and of the training."""

BATCH = 16


@recipe
class PerceptualVaeRehearsal(DrawnSamples):
    """The twin."""

    vae: TransparentVaeTrain = change(
        TransparentVaeTrain,
        data=change(TransparentVaeData, page_alpha="character", crop_to="layers", size_groups=()),
        schedule=change(Schedule, max_steps=STEPS_BEFORE, warmup_steps=STEPS_BEFORE // 10),
    )
    """Trains the autoencoders from new weights, on layers as the chain shows them."""

    train: PerceptualVaeTrain = PerceptualVaeTrain()
    """The chain's training."""

    scores: VaeScores = change(
        VaeScores,
        vae_before=VAE,
        transparent_vae_before=TRANSPARENT_VAE,
        pages=TEST_LIST,
        target_size=SIDE,
        hardware=change(Device, device="cpu", threads=2),
    )
    """Measures what it learnt on characters that it has not seen."""


def rehearse(chain: TransparentVaeChain) -> PerceptualVaeRehearsal:
    """The rule: sources from the stages in front, smaller pictures, fewer steps, one machine.

    Crops are the chain's: a layer fills its picture. Alpha of small layers on a whole character is
    lost where only the mean over all pixels counts.
    """
    stage = chain.train
    stage = evolve(
        stage,
        model=evolve(stage.model, vae=VAE, transparent_vae=TRANSPARENT_VAE),
        data=evolve(
            stage.data,
            sources=((TRAIN_LIST, 1),),
            validation=TEST_LIST,
            global_batch=BATCH,
            target_size=SIDE,
        ),
        loss=evolve(
            stage.loss,
            lpips=0.0,
            convnext=0.0,
            composite_l1=stage.loss.composite_l1 + stage.loss.lpips + stage.loss.convnext,
        ),
        adversarial=evolve(stage.adversarial, channels=32, lr=stage.adversarial.lr * 10),
    )
    stage = shortened(stage, steps=STEPS, batch=BATCH, lr_factor=100 / 3)
    return PerceptualVaeRehearsal(
        train=evolve(stage, schedule=evolve(stage.schedule, validate_every=STEPS)),
        environment=chain.environment,
    )
