"""The CPU-sized twin of part segmentation: the same stage and code, small, on drawn characters.

In place of SAM-HQ it starts from a small one of new weights. Lengths and learning rates are not
tuned.
"""

from seethrough.recipe import Execution, Experiment, Output, change, evolve, recipe
from seethrough.recipes.characters import Characters
from seethrough.recipes.environment import Environment
from seethrough.recipes.partseg import PartScores, PartSegChain, PartSegTrain, SmallSam
from seethrough.recipes.stand_ins import SIDE, TEST_LIST, TRAIN_LIST, shortened
from seethrough.recipes.training import Device

BATCH = 16


@recipe
class PartSegRehearsal(Experiment):
    """The twin."""

    characters: Characters = change(Characters, test_count=64)
    """Draws the samples."""

    sam: SmallSam = change(SmallSam, image_size=SIDE)
    """Makes the SAM to start from."""

    train: PartSegTrain = PartSegTrain()
    """The chain's training."""

    scores: PartScores = change(
        PartScores,
        pages=TEST_LIST,
        known=TRAIN_LIST,
        hardware=change(Device, device="cpu", threads=2),
    )
    """Measures what it learnt on characters that it has not seen."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""


def rehearse(chain: PartSegChain) -> PartSegRehearsal:
    """The rule: sources from the stages in front, smaller pages, fewer steps, one machine.

    Characters stand upright in the middle of their page: they are neither mirrored nor cut.
    """
    stage = chain.train
    sampling = evolve(stage.loss.sampling, points=256)
    stage = evolve(
        stage,
        model=evolve(stage.model, sam=Output("sam", "sam"), partseg=None),
        data=evolve(
            stage.data,
            sources=((TRAIN_LIST, 1),),
            validation=None if stage.data.validation is None else TEST_LIST,
            global_batch=BATCH,
            target_size=SIDE,
            random_flip=0.0,
            random_crop=0.0,
        ),
        loss=evolve(stage.loss, sampling=sampling),
        deepspeed=evolve(stage.deepspeed, zero_stage=0, offload_optimizer=None),
    )
    validate_every = None if stage.schedule.validate_every is None else 300
    stage = shortened(stage, steps=600, batch=BATCH, lr_factor=10.0)
    return PartSegRehearsal(
        train=evolve(stage, schedule=evolve(stage.schedule, validate_every=validate_every)),
        environment=chain.environment,
    )
