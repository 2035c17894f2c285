"""A small model of its own: layers and depth of drawn characters, learnt on a CPU.

Hypothesis: characters of 96 px have little enough in them that both families learn them in an hour
or two on two cores, if one step from noise is all that the networks have to know.
Base: none; the stages are those of layerdiff3d_v3 and marigold3d_v3.
Cost: 2 CPU cores; every stage resumes.
"""

from seethrough.recipe import change, recipe
from seethrough.recipes.autoencoder import LayerVaeTrain
from seethrough.recipes.avatars import AvatarsChain
from seethrough.recipes.characters import Characters
from seethrough.recipes.layerdiff import (
    Decompose,
    LayerDiff2DData,
    LayerDiff2DTrain,
    LayerDiff3DData,
    LayerDiff3DTrain,
    Sampler,
)
from seethrough.recipes.marigold import (
    DepthSampler,
    Marigold2DData,
    Marigold2DTrain,
    Marigold3DData,
    Marigold3DTrain,
    OrderLayers,
)
from seethrough.recipes.objective import (
    LAST_TIMESTEP,
    MarigoldObjective,
    MarigoldObjective3D,
    Objective,
    Objective3D,
)
from seethrough.recipes.small_base import SmallBase, SmallMarigold
from seethrough.recipes.training import AdamW, Hardware, Schedule
from seethrough.recipes.transparent_vae import (
    TransparentVaeData,
    TransparentVaeModel,
    TransparentVaeTrain,
)

SIDE = 96
"""Of pages and pictures in px."""
DEPTH_SIDE = 64
"""Of what the model of depth sees."""
NOISIEST = (900, 1000)
"""Timesteps that nearly all training is at."""
MULTIPLIER = 1e6
"""How much more often they are drawn than others."""


@recipe
class Avatars(AvatarsChain):
    """4000 characters to learn from, 96 others to measure on."""

    characters: Characters = change(Characters, train_count=4000, test_count=96, size=SIDE)
    vae: TransparentVaeTrain = change(
        TransparentVaeTrain,
        model=change(
            TransparentVaeModel,
            vae_channels=(16, 32, 64, 64),
            decoder_channels=(16, 32, 32, 64, 64),
        ),
        data=change(TransparentVaeData, target_size=SIDE, silhouette_probability=0.1),
        optim=change(AdamW, precision="bf16"),
        schedule=change(Schedule, max_steps=1200, checkpoint_every=300),
    )

    decoders: TransparentVaeTrain = change(
        TransparentVaeTrain,
        data=change(TransparentVaeData, target_size=SIDE, global_batch=16),
        optim=change(AdamW, lr=1e-3, betas=(0.9, 0.99), precision="bf16"),
        schedule=change(Schedule, max_steps=500, warmup_steps=25, floor=0.02),
        hardware=change(Hardware, micro_batch=8),
    )

    base: SmallBase = change(SmallBase, channels=(64, 96, 96), text_length=8)
    train_2d: LayerDiff2DTrain = change(
        LayerDiff2DTrain,
        data=change(LayerDiff2DData, target_size=SIDE, global_batch=64),
        objective=change(
            Objective,
            prediction_type="sample",
            snr_gamma=None,
            timestep_bias="range",
            timestep_bias_range=NOISIEST,
            timestep_bias_multiplier=MULTIPLIER,
        ),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), ema_decay=0.99, precision="bf16"),
        schedule=change(
            Schedule, max_steps=1200, warmup_steps=100, lr_schedule="cosine", floor=0.1
        ),
        hardware=change(Hardware, micro_batch=32),
    )
    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain,
        data=change(LayerDiff3DData, target_size=SIDE, global_batch=8),
        objective=change(
            Objective3D,
            prediction_type="sample",
            snr_gamma=None,
            timestep_bias="range",
            timestep_bias_range=NOISIEST,
            timestep_bias_multiplier=MULTIPLIER,
            absent_weight=0.5,
        ),
        optim=change(AdamW, lr=1e-3, betas=(0.9, 0.99), ema_decay=0.99, precision="bf16"),
        schedule=change(
            Schedule, max_steps=2500, warmup_steps=100, lr_schedule="cosine", floor=0.02
        ),
        hardware=change(Hardware, micro_batch=4),
    )
    decompose: Decompose = change(
        Decompose,
        resolution=SIDE,
        prediction_type="sample",
        sampler=change(Sampler, steps=1, timestep_spacing="trailing"),
        precision="fp32",
    )

    depth_vae: LayerVaeTrain = change(LayerVaeTrain, schedule=change(Schedule, max_steps=800))
    depth_base: SmallMarigold = change(SmallMarigold, channels=(32, 48, 64))
    depth_2d: Marigold2DTrain = change(
        Marigold2DTrain,
        data=change(Marigold2DData, target_size=DEPTH_SIDE, global_batch=32),
        objective=change(
            MarigoldObjective,
            noise="zeros",
            timestep_bias="range",
            timestep_bias_range=LAST_TIMESTEP,
            timestep_bias_multiplier=MULTIPLIER,
        ),
        optim=change(AdamW, lr=2e-3, betas=(0.9, 0.99), ema_decay=0.99, precision="fp32"),
        schedule=change(Schedule, max_steps=500, warmup_steps=50, lr_schedule="cosine"),
        sampler=change(DepthSampler, noise="zeros"),
        hardware=change(Hardware, micro_batch=16),
    )
    depth_3d: Marigold3DTrain = change(
        Marigold3DTrain,
        data=change(Marigold3DData, target_size=DEPTH_SIDE, global_batch=8),
        objective=change(
            MarigoldObjective3D,
            noise="zeros",
            timestep_bias="range",
            timestep_bias_range=LAST_TIMESTEP,
            timestep_bias_multiplier=MULTIPLIER,
            absent_weight=0.0,
        ),
        optim=change(AdamW, lr=1.5e-3, betas=(0.9, 0.99), ema_decay=0.99, precision="fp32"),
        schedule=change(Schedule, max_steps=900, warmup_steps=50, lr_schedule="cosine", floor=0.02),
        sampler=change(DepthSampler, steps=1, noise="zeros"),
        hardware=change(Hardware, micro_batch=4),
    )
    depth_order: OrderLayers = change(
        OrderLayers,
        resolution=DEPTH_SIDE,
        sampler=change(DepthSampler, steps=1, noise="zeros"),
        precision="fp32",
    )
