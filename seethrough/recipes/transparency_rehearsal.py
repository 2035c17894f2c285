"""The CPU-sized twin of a transparency chain: the same stages and code, on embedded scenes.

What the recipe takes from outside, stages in front make: photos with glass-like objects in the
layout of Trans10K, and a base around an autoencoder that was trained on them. Lengths and learning
rates are not tuned.
"""

from collections.abc import Iterator
from typing import TypeVar

from seethrough.recipe import (
    Execution,
    Experiment,
    Output,
    Source,
    change,
    evolve,
    recipe,
    show_value,
)
from seethrough.recipes.autoencoder import AutoencoderModel, PhotoVaeTrain
from seethrough.recipes.environment import Environment
from seethrough.recipes.glass_scenes import GlassScenes
from seethrough.recipes.glass_scores import GlassScores
from seethrough.recipes.small_base import SmallSD3
from seethrough.recipes.stand_ins import BASE, SIDE, UNTRACKED, brief, shortened, two_cores
from seethrough.recipes.training import AdamW, Device
from seethrough.recipes.transparency import (
    EmptyPrompt,
    TransparencyChain,
    TransparencyData,
    TransparencyLoraChain,
    TransparencyLoraTrain,
    TransparencyTrain,
)

StageT = TypeVar("StageT", bound=TransparencyTrain)

SCENES: Source = Output("scenes", "scenes")


@recipe
class TransparencyRehearsal(Experiment):
    """The twin."""

    scenes: GlassScenes = change(GlassScenes, size=SIDE)
    """Draws the photos."""

    vae: PhotoVaeTrain = change(
        PhotoVaeTrain,
        seed=1,
        model=change(AutoencoderModel, channels=(16, 32, 32), layers=1, norm_groups=8),
        data=change(
            TransparencyData,
            sources=((SCENES, 1),),
            global_batch=16,
            target_sizes=(SIDE,),
            random_blur=0.0,
            random_noise=0.0,
        ),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), precision="fp32"),
        schedule=brief(max_steps=500, warmup_steps=50),
        hardware=two_cores(micro_batch=8),
        tracking=UNTRACKED,
    )
    """Trains the autoencoder from new weights."""

    base: SmallSD3 = SmallSD3()
    """Makes the rest of a base around it."""

    prompt: EmptyPrompt = EmptyPrompt()
    """The chain's empty prompt."""

    train: TransparencyTrain = TransparencyTrain()
    """The chain's training."""

    scores: GlassScores = change(
        GlassScores, resolution=SIDE, hardware=change(Device, device="cpu", threads=2)
    )
    """Measures what it learnt on photographs that it has not seen."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def check(self) -> Iterator[tuple[str, str]]:
        told, objective = self.scores, self.train.objective
        if told.shift != objective.flow_shift:
            given = show_value(objective.flow_shift)
            yield "scores.shift", f"train.objective is scored with {given}: set that"
        if told.shift is None and told.timestep != objective.timestep:
            yield "scores.timestep", f"train.objective.timestep is {objective.timestep}: set that"


@recipe
class TransparencyLoraRehearsal(TransparencyRehearsal):
    """The twin with low-rank updates."""

    train: TransparencyLoraTrain = change(TransparencyLoraTrain)


def rehearse(chain: TransparencyChain) -> TransparencyRehearsal:
    """The rule: sources from the stages in front, smaller photos, fewer steps, one machine."""
    twin: TransparencyRehearsal
    if isinstance(chain, TransparencyLoraChain):
        twin = TransparencyLoraRehearsal(train=_shrink(chain.train))
    else:
        twin = TransparencyRehearsal(train=_shrink(chain.train))
    return evolve(
        twin,
        prompt=evolve(chain.prompt, base=BASE, dtype="float32"),
        scores=evolve(
            twin.scores,
            timestep=chain.train.objective.timestep,
            shift=chain.train.objective.flow_shift,
            steps=chain.train.sampler.steps,
            classes=2 if chain.train.data.classes == "merged" else 3,
        ),
        environment=chain.environment,
    )


def _shrink(stage: StageT) -> StageT:
    """From new weights rates are higher; blur and noise of photos of 64 px would leave nothing."""
    schedule = stage.schedule
    stage = evolve(
        stage,
        model=evolve(stage.model, base=BASE, transformer=None, vae_precision="fp32"),
        data=evolve(
            stage.data,
            sources=((SCENES, 1),),
            validation=None if stage.data.validation is None else SCENES,
            global_batch=32,
            target_sizes=(SIDE,),
            random_blur=0.0,
            random_noise=0.0,
        ),
        deepspeed=evolve(stage.deepspeed, zero_stage=0, offload_optimizer=None),
        hardware=evolve(stage.hardware, host_memory_gib=None),
    )
    stage = shortened(stage, steps=1000, batch=32, lr_factor=10.0)
    validate_every = None if schedule.validate_every is None else 500
    return evolve(stage, schedule=evolve(stage.schedule, validate_every=validate_every))
