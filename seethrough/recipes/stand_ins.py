"""What experiments on drawn characters share: these, autoencoders trained on them, and shorter
training."""

from typing import TypeVar

from seethrough.recipe import Execution, Experiment, Output, Source, change, evolve, recipe
from seethrough.recipes.autoencoder import AutoencoderModel, LayerVaeTrain
from seethrough.recipes.characters import Characters
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import AdamW, Hardware, Schedule, Tracking, TrainStage
from seethrough.recipes.transparent_vae import (
    TransparentVaeData,
    TransparentVaeLoss,
    TransparentVaeModel,
    TransparentVaeTrain,
)

StageT = TypeVar("StageT", bound=TrainStage)

TRAIN_LIST: Source = Output("characters", "train")
TEST_LIST: Source = Output("characters", "test")
VAE: Source = Output("vae", "vae")
TRANSPARENT_VAE: Source = Output("vae", "transparent_vae")
BASE: Source = Output("base", "base")

SIDE = 64
"""Of the pages and pictures in px."""

UNTRACKED: Tracking = change(Tracking, tracker=None)
"""What lasts minutes is watched where it runs."""


def brief(max_steps: int, warmup_steps: int) -> Schedule:
    """The schedule of an autoencoder that is trained in minutes."""
    return change(
        Schedule,
        max_steps=max_steps,
        warmup_steps=warmup_steps,
        floor=0.02,
        checkpoint_every=500,
        keep_checkpoints=1,
        pictures_every=None,
        log_every=50,
    )


def two_cores(micro_batch: int) -> Hardware:
    """Two processes on the CPU, of one thread each."""
    return change(
        Hardware,
        device="cpu",
        processes=2,
        threads=1,
        channels_last=True,
        micro_batch=micro_batch,
        loader_workers=0,
    )


def small_vae() -> TransparentVaeTrain:
    """Autoencoders that two cores train from new weights in minutes."""
    return change(
        TransparentVaeTrain,
        seed=1,
        model=change(
            TransparentVaeModel,
            vae_channels=(8, 16, 32, 64),
            vae_layers=1,
            vae_norm_groups=4,
            scaled_std=0.6,
            encoder_channels=(8, 16, 16, 32),
            decoder_channels=(8, 16, 32, 32, 64),
            decoder_layers=1,
        ),
        data=change(
            TransparentVaeData,
            sources=((TRAIN_LIST, 1),),
            global_batch=16,
            target_size=SIDE,
            page_probability=0.3,
            random_pad=0.0,
            random_flip=0.5,
            crop_to="character",
        ),
        loss=change(TransparentVaeLoss, kl=1e-2, identity=0.0),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), precision="fp32"),
        schedule=brief(max_steps=640, warmup_steps=64),
        hardware=two_cores(micro_batch=8),
        tracking=UNTRACKED,
    )


def small_depth_vae() -> LayerVaeTrain:
    """An autoencoder of depth, likewise. One latent stands for few pixels, and has many channels:
    coarser latents don't show which of two layers is in front."""
    return change(
        LayerVaeTrain,
        seed=1,
        model=change(
            AutoencoderModel,
            channels=(16, 32, 32),
            layers=1,
            norm_groups=8,
            latent_channels=8,
            kl=1e-4,
            scaled_std=0.6,
        ),
        data=change(
            TransparentVaeData,
            sources=((TRAIN_LIST, 1),),
            global_batch=16,
            target_size=SIDE,
            page_probability=0.2,
            silhouette_probability=0.4,
            random_pad=0.0,
            random_flip=0.5,
            crop_to="character",
        ),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), precision="fp32"),
        schedule=brief(max_steps=600, warmup_steps=20),
        hardware=two_cores(micro_batch=8),
        tracking=UNTRACKED,
    )


@recipe
class DrawnSamples(Experiment):
    """Stages that make what every recipe takes from outside: samples, and an autoencoder."""

    characters: Characters = Characters()
    """Draws the samples."""

    vae: TransparentVaeTrain = small_vae()
    """Trains the autoencoders from new weights."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""


def shortened(stage: StageT, steps: int, batch: int, lr_factor: float) -> StageT:
    """Two processes on the CPU that share a batch, `steps` steps, averaged weights.

    Small networks bear higher learning rates: a factor, so that an ablation of the rate stays one.
    """
    longest = stage.schedule.warmup_steps if stage.schedule.warmup_epochs is None else steps
    return evolve(
        stage,
        optim=evolve(stage.optim, lr=stage.optim.lr * lr_factor, ema_decay=0.99, precision="fp32"),
        schedule=evolve(
            stage.schedule,
            max_steps=steps,
            warmup_steps=min(longest, steps // 10),
            warmup_epochs=None,
            anneal_steps=stage.schedule.anneal_steps * steps // stage.schedule.max_steps,
            checkpoint_every=max(steps // 3, 1),
            keep_checkpoints=1,
            pictures_every=None,
            log_every=50,
        ),
        hardware=evolve(
            stage.hardware,
            device="cpu",
            processes=2,
            threads=1,
            channels_last=stage.deepspeed.zero_stage == 0,
            micro_batch=batch // 2,
            loader_workers=0,
            gradient_checkpointing=False,
        ),
        tracking=evolve(stage.tracking, tracker=None),
    )
