"""The CPU-sized twin of a LayerDiff chain: the same stages and code, smaller, on drawn characters.

What the recipe takes from the hub, stages in front make in the hub's layout: the samples, the
transparent VAE, and an SDXL-shaped base.
"""

from typing import TypeVar

from seethrough.recipe import Output, change, evolve, recipe
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.layerdiff import (
    Decompose,
    LayerDiff2DChain,
    LayerDiff2DTrain,
    LayerDiff3DChain,
    LayerDiff3DTrain,
)
from seethrough.recipes.small_base import SmallBase
from seethrough.recipes.stand_ins import (
    BASE,
    SIDE,
    TEST_LIST,
    TRAIN_LIST,
    TRANSPARENT_VAE,
    DrawnSamples,
    shortened,
)
from seethrough.recipes.training import Device

FRAMES_LR_FACTOR = 1.25
"""By how much the small 3D network's learning rates are higher."""

StageT = TypeVar("StageT", LayerDiff2DTrain, LayerDiff3DTrain)


@recipe
class StandIns(DrawnSamples):
    """Stages that make what a recipe takes from outside."""

    base: SmallBase = SmallBase()
    """Makes the rest of a base around them."""


@recipe
class LayerDiff2DRehearsal(StandIns):
    """The twin of 2D training."""

    train_2d: LayerDiff2DTrain = LayerDiff2DTrain()
    """The chain's 2D training."""


@recipe
class LayerDiff3DRehearsal(LayerDiff2DRehearsal):
    """The twin of the whole chain."""

    inflate: Inflate = Inflate()
    """The chain's conversion."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """The chain's 3D fine-tuning."""

    decompose: Decompose = change(Decompose, pages=TEST_LIST)
    """The chain's decomposition, of characters not trained on."""


def rehearse_2d(chain: LayerDiff2DChain) -> LayerDiff2DRehearsal:
    """The rule for 2D training alone."""
    return LayerDiff2DRehearsal(train_2d=_shrink_2d(chain.train_2d), environment=chain.environment)


def rehearse_3d(chain: LayerDiff3DChain) -> LayerDiff3DRehearsal:
    """The rule: sources from the stages in front, smaller pictures, fewer steps, one machine."""
    temporal_lr = chain.train_3d.model.temporal_lr
    train_3d = evolve(
        chain.train_3d,
        model=evolve(
            chain.train_3d.model,
            unet=Output("inflate", "unet"),
            base=BASE,
            transparent_vae=TRANSPARENT_VAE,
            temporal_lr=None if temporal_lr is None else temporal_lr * FRAMES_LR_FACTOR,
        ),
    )
    return LayerDiff3DRehearsal(
        environment=chain.environment,
        train_2d=_shrink_2d(chain.train_2d),
        inflate=evolve(chain.inflate, unet=Output("train_2d", "unet")),
        train_3d=_shrink(train_3d, steps=200, batch=6, lr_factor=FRAMES_LR_FACTOR),
        decompose=evolve(
            chain.decompose,
            unet=Output("train_3d", "unet"),
            base=BASE,
            transparent_vae=TRANSPARENT_VAE,
            pages=TEST_LIST,
            known=TRAIN_LIST,
            resolution=SIDE,
            crop_to="character",
            head_pass="body",
            sampler=evolve(chain.decompose.sampler, steps=10),
            precision="fp32",
            pages_at_once=16,
            hardware=Device(device="cpu", threads=2),
        ),
    )


def _shrink_2d(stage: LayerDiff2DTrain) -> LayerDiff2DTrain:
    model = evolve(
        stage.model, base=BASE, unet_delta=None, transparent_vae=TRANSPARENT_VAE, unet=None
    )
    return _shrink(evolve(stage, model=model), steps=1200, batch=64, lr_factor=200 / 3)


def _shrink(stage: StageT, steps: int, batch: int, lr_factor: float) -> StageT:
    """Shortened, on small pictures of the whole character, not mirrored: each is encoded once and
    kept."""
    return evolve(
        shortened(stage, steps, batch, lr_factor),
        data=evolve(
            stage.data,
            sources=((TRAIN_LIST, 1),),
            validation=None if stage.data.validation is None else TEST_LIST,
            global_batch=batch,
            target_size=SIDE,
            crop_to="character",
            random_pad=0.0,
            random_flip=0.0,
            cache_latents=True,
        ),
        objective=evolve(stage.objective, posterior="mean"),
    )
