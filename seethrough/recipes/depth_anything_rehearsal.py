"""The CPU-sized twin of a chain of Depth Anything: the same stages and code, on drawn characters.

What the recipe takes from outside, stages in front make: the samples, and a small network that was
trained on them from new weights, by another loss: from these the published one learns next to
nothing. Lengths and learning rates are not tuned.

Few layers of drawn characters have more than one level of depth, so that the adapter learns little:
that its control tells what a picture doesn't show, a test of the task has.
"""

from typing import TypeVar

from seethrough.recipe import Execution, Experiment, Output, Source, change, evolve, recipe
from seethrough.recipes.characters import Characters
from seethrough.recipes.depth_anything import (
    DepthAnythingAdapterChain,
    DepthAnythingAdapterTrain,
    DepthAnythingChain,
    DepthAnythingData,
    DepthAnythingLoss,
    DepthAnythingModel,
    DepthAnythingTrain,
    DepthScores,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.stand_ins import (
    SIDE,
    TEST_LIST,
    TRAIN_LIST,
    UNTRACKED,
    shortened,
    two_cores,
)
from seethrough.recipes.training import AdamW, Device, Schedule

StageT = TypeVar("StageT", bound=DepthAnythingTrain)

NETWORK: Source = Output("base", "depth_anything")


@recipe
class DepthAnythingRehearsal(Experiment):
    """The twin."""

    characters: Characters = change(Characters, test_count=96)
    """Draws the samples."""

    base: DepthAnythingTrain = change(
        DepthAnythingTrain,
        seed=1,
        model=change(
            DepthAnythingModel,
            weights=None,
            width=64,
            depth=4,
            heads=4,
            patch=8,
            features=16,
            out_channels=(16, 24, 32, 48),
        ),
        data=change(
            DepthAnythingData,
            sources=((TRAIN_LIST, 1),),
            global_batch=16,
            target_size=SIDE,
            crop_to="character",
        ),
        loss=change(
            DepthAnythingLoss,
            gradient_matching=0.0,
            affine_invariant=0.0,
            scale_and_shift_invariant=1.0,
        ),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), precision="fp32"),
        schedule=change(
            Schedule,
            max_steps=300,
            lr_schedule="cosine",
            warmup_steps=30,
            floor=0.02,
            checkpoint_every=500,
            keep_checkpoints=1,
            pictures_every=None,
            log_every=50,
        ),
        hardware=two_cores(micro_batch=8),
        tracking=UNTRACKED,
    )
    """Trains a plain network from new weights."""

    train: DepthAnythingTrain = DepthAnythingTrain()
    """The chain's training."""

    scores: DepthScores = change(
        DepthScores,
        target_size=SIDE,
        crop_to="character",
        hardware=change(Device, device="cpu", threads=2),
    )
    """Measures what it learnt on characters that it has not seen."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""


@recipe
class DepthAnythingAdapterRehearsal(DepthAnythingRehearsal):
    """The twin with an adapter."""

    train: DepthAnythingAdapterTrain = change(DepthAnythingAdapterTrain)


def rehearse(chain: DepthAnythingChain) -> DepthAnythingRehearsal:
    """The rule: weights and samples from the stages in front, smaller pictures, one machine."""
    if isinstance(chain, DepthAnythingAdapterChain):
        train = _shrink(chain.train)
        model = evolve(train.model, control_widths=(16, 24, 32))
        twin = DepthAnythingAdapterRehearsal(train=evolve(train, model=model))
        scores = evolve(twin.scores, tags=chain.train.data.tags)
        return evolve(twin, scores=scores, environment=chain.environment)
    return DepthAnythingRehearsal(train=_shrink(chain.train), environment=chain.environment)


def _shrink(stage: StageT) -> StageT:
    """From the base's weights on, at a fifth of the rate: at twice the rate they lose what they
    know to the published loss, whose angles of gradients say little of flat parts."""
    steps = 100
    stage = evolve(
        stage,
        model=evolve(stage.model, weights=NETWORK),
        data=evolve(
            stage.data,
            sources=((TRAIN_LIST, 1),),
            validation=None if stage.data.validation is None else TEST_LIST,
            global_batch=16,
            target_size=SIDE,
            crop_to="character",
        ),
    )
    stage = shortened(stage, steps=steps, batch=16, lr_factor=0.2)
    validate_every = None if stage.schedule.validate_every is None else steps
    return evolve(stage, schedule=evolve(stage.schedule, validate_every=validate_every))
