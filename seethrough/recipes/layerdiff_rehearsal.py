"""The CPU-sized twin of a LayerDiff chain: the same stages and code, smaller, on drawn characters.

What the recipe takes from the hub, stages in front make in the hub's layout: the samples, the
transparent VAE, and an SDXL-shaped base.
"""

from typing import TypeVar

from seethrough.recipe import Experiment, Output, Source, change, evolve, recipe
from seethrough.recipes.characters import Characters
from seethrough.recipes.layerdiff import (
    Decompose,
    Inflate,
    LayerDiff2DTrain,
    LayerDiff3DChain,
    LayerDiff3DTrain,
)
from seethrough.recipes.small_base import SmallBase
from seethrough.recipes.training import AdamW, Device, Hardware, Schedule, Tracking
from seethrough.recipes.transparent_vae import (
    TransparentVaeData,
    TransparentVaeLoss,
    TransparentVaeModel,
    TransparentVaeTrain,
)

TRAIN_LIST: Source = Output("characters", "train")
TEST_LIST: Source = Output("characters", "test")
VAE: Source = Output("vae", "vae")
TRANSPARENT_VAE: Source = Output("vae", "transparent_vae")
BASE: Source = Output("base", "base")

SIDE = 64

StageT = TypeVar("StageT", LayerDiff2DTrain, LayerDiff3DTrain)


@recipe
class LayerDiffRehearsal(Experiment):
    """The twin: three stages that stand in for the hub, then the chain."""

    characters: Characters = Characters()
    """Draws the samples."""

    vae: TransparentVaeTrain = change(
        TransparentVaeTrain,
        seed=1,
        model=change(
            TransparentVaeModel,
            vae_channels=(8, 16, 32, 64),
            vae_layers=1,
            vae_norm_groups=4,
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
            whole_page=True,
        ),
        loss=change(TransparentVaeLoss, kl=1e-3, identity=0.0),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), precision="fp32"),
        schedule=change(
            Schedule,
            max_steps=700,
            warmup_steps=70,
            floor=0.02,
            checkpoint_every=500,
            keep_checkpoints=1,
            pictures_every=None,
            log_every=50,
        ),
        hardware=change(
            Hardware,
            device="cpu",
            threads=2,
            channels_last=True,
            micro_batch=16,
            loader_workers=0,
        ),
        tracking=change(Tracking, tracker=None),
    )
    """Trains the autoencoders from new weights."""

    base: SmallBase = SmallBase()
    """Makes the rest of a base around them."""

    train_2d: LayerDiff2DTrain = LayerDiff2DTrain()
    """The chain's 2D training."""

    inflate: Inflate = Inflate()
    """The chain's conversion."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """The chain's 3D fine-tuning."""

    decompose: Decompose = change(Decompose, pages=TEST_LIST)
    """The chain's decomposition, of characters not trained on."""


def rehearse(chain: LayerDiff3DChain) -> LayerDiffRehearsal:
    """The rule: sources from the stages in front, smaller pictures, fewer steps, one process."""
    train_2d = _shrink(
        evolve(
            chain.train_2d,
            model=evolve(
                chain.train_2d.model,
                base=BASE,
                unet_delta=None,
                transparent_vae=TRANSPARENT_VAE,
                unet=None,
            ),
        ),
        steps=1000,
        batch=32,
        lr=1e-3,
    )
    train_3d = _shrink(
        evolve(
            chain.train_3d,
            model=evolve(chain.train_3d.model, base=BASE, transparent_vae=TRANSPARENT_VAE),
        ),
        steps=300,
        batch=4,
        lr=5e-4,
    )
    return LayerDiffRehearsal(
        train_2d=train_2d,
        inflate=chain.inflate,
        train_3d=train_3d,
        decompose=evolve(
            chain.decompose,
            base=BASE,
            transparent_vae=TRANSPARENT_VAE,
            pages=TEST_LIST,
            known=TRAIN_LIST,
            resolution=SIDE,
            head_pass="page",
            sampler=evolve(chain.decompose.sampler, steps=10),
            precision="fp32",
            pages_at_once=16,
            hardware=Device(device="cpu", threads=2),
        ),
    )


def _shrink(stage: StageT, steps: int, batch: int, lr: float) -> StageT:
    """One process on the CPU, small batches and pictures, `steps` steps, averaged weights.

    Crops are fixed (no margins, no mirroring), so each picture is encoded once and kept.
    """
    return evolve(
        stage,
        data=evolve(
            stage.data,
            sources=((TRAIN_LIST, 1),),
            global_batch=batch,
            target_size=SIDE,
            whole_page=True,
            random_pad=0.0,
            random_flip=0.0,
            cache_latents=True,
        ),
        objective=evolve(stage.objective, offset_probability=0.0, posterior="mean"),
        optim=evolve(stage.optim, lr=lr, ema_decay=0.99, precision="fp32"),
        schedule=evolve(
            stage.schedule,
            max_steps=steps,
            warmup_steps=min(stage.schedule.warmup_steps, steps // 10),
            checkpoint_every=max(steps // 3, 1),
            keep_checkpoints=1,
            pictures_every=None,
            log_every=50,
        ),
        hardware=evolve(
            stage.hardware,
            device="cpu",
            threads=2,
            channels_last=True,
            processes=1,
            micro_batch=batch,
            loader_workers=0,
            gradient_checkpointing=False,
        ),
        tracking=evolve(stage.tracking, tracker=None),
    )
