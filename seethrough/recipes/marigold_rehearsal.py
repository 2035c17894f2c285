"""The CPU-sized twin of a Marigold chain: the same stages and code, smaller, on drawn characters.

What the recipe takes from the hub, stages in front make in the hub's layout: the samples, and a
base around an autoencoder that was trained on their layers and on silhouettes like their depths.

All training goes into the last timestep, with zeros for noise: that one step is the prediction,
and a small network needs most of its training to look past noise.
"""

from typing import TypeVar

from seethrough.data.tags import TAGS_V2
from seethrough.recipe import Execution, Experiment, Output, change, evolve, recipe
from seethrough.recipes.autoencoder import LayerVaeTrain
from seethrough.recipes.characters import Characters
from seethrough.recipes.environment import Environment
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.marigold import (
    Beyond,
    DepthSampler,
    Marigold2DChain,
    Marigold2DTrain,
    Marigold3DChain,
    Marigold3DTrain,
    OrderLayers,
    Transparent,
)
from seethrough.recipes.objective import LAST_TIMESTEP
from seethrough.recipes.small_base import SmallMarigold
from seethrough.recipes.stand_ins import (
    BASE,
    SIDE,
    TEST_LIST,
    TRAIN_LIST,
    shortened,
    small_depth_vae,
)
from seethrough.recipes.training import Device

TRANSPARENT: Transparent = "gray"
BEYOND: Beyond = "nearest"
"""Flat colours are told apart by where a layer ends, and a small autoencoder keeps the depth of
thin layers only if it goes on around them."""

ONE_STEP = DepthSampler(steps=1, noise="zeros")

StageT = TypeVar("StageT", Marigold2DTrain, Marigold3DTrain)


@recipe
class Marigold2DRehearsal(Experiment):
    """The twin of 2D training."""

    characters: Characters = Characters()
    """Draws the samples."""

    vae: LayerVaeTrain = small_depth_vae()
    """Trains the autoencoder from new weights."""

    base: SmallMarigold = change(SmallMarigold, channels=(32, 48, 64))
    """Makes the rest of a base around it."""

    train_2d: Marigold2DTrain = Marigold2DTrain()
    """The chain's 2D training."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""


@recipe
class Marigold3DRehearsal(Marigold2DRehearsal):
    """The twin of the whole chain."""

    characters: Characters = change(Characters, test_count=256)
    """Draws the samples: of 10 characters some 6 have a pair of layers whose order varies."""

    inflate: Inflate = Inflate()
    """The chain's conversion."""

    train_3d: Marigold3DTrain = Marigold3DTrain()
    """The chain's 3D fine-tuning."""

    depth_order: OrderLayers = change(OrderLayers, pages=TEST_LIST, known=TRAIN_LIST)
    """The chain's order of layers, of characters not trained on."""


def rehearse_2d(chain: Marigold2DChain) -> Marigold2DRehearsal:
    """The rule for 2D training alone."""
    return Marigold2DRehearsal(train_2d=_shrink_2d(chain.train_2d), environment=chain.environment)


def rehearse_3d(chain: Marigold3DChain) -> Marigold3DRehearsal:
    """The rule: sources from the stages in front, smaller pictures, fewer steps, one machine."""
    model = evolve(chain.train_3d.model, unet=Output("inflate", "unet"), base=BASE)
    frames = evolve(
        chain.train_3d.data.frames, absent=False, transparent=TRANSPARENT, beyond=BEYOND
    )
    train_3d = evolve(
        chain.train_3d,
        model=model,
        data=evolve(
            chain.train_3d.data,
            groups=(TAGS_V2,),
            crop_tags=(),
            frames=frames,
            random_pad=0.0,
        ),
    )
    return Marigold3DRehearsal(
        environment=chain.environment,
        train_2d=_shrink_2d(chain.train_2d),
        inflate=evolve(
            chain.inflate, unet=Output("train_2d", "unet"), group_sizes=(len(TAGS_V2) + 1,)
        ),
        train_3d=_shrink(train_3d, steps=400, batch=6, lr_factor=25.0),
        depth_order=evolve(
            chain.depth_order,
            unet=Output("train_3d", "unet"),
            base=BASE,
            pages=TEST_LIST,
            known=TRAIN_LIST,
            crop_to="character",
            frames=frames,
            resolution=SIDE,
            sampler=ONE_STEP,
            precision="fp32",
            hardware=Device(device="cpu", threads=2),
        ),
    )


def _shrink_2d(stage: Marigold2DTrain) -> Marigold2DTrain:
    stage = evolve(
        stage,
        model=evolve(stage.model, base=BASE, unet=None),
        data=evolve(stage.data, transparent=TRANSPARENT, beyond=BEYOND),
    )
    return _shrink(stage, steps=300, batch=32, lr_factor=200 / 3)


def _shrink(stage: StageT, steps: int, batch: int, lr_factor: float) -> StageT:
    """Shortened, on small pictures of the whole character as it is: each is encoded once and
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
            random_flip=0.0,
            random_crop=0.0,
            random_hsv=0.0,
            cache_latents=True,
        ),
        objective=evolve(
            stage.objective,
            noise="zeros",
            timestep_bias="range",
            timestep_bias_range=LAST_TIMESTEP,
            timestep_bias_multiplier=1e6,
        ),
        sampler=ONE_STEP,
    )
