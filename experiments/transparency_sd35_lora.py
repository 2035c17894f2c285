"""Low-rank updates of attention in place of all weights.

Hypothesis: the one-step task is near to what the model knows, so that updates of rank 64, 2 % of
the parameters, come close; averaged and annealed they need no peak of the learning rate at the end.
Base: transparency_sd35. Cost: the same compute less the gradients of frozen weights; one GPU of
24 GB holds weights and state, activations are not measured.
"""

from experiments.transparency_sd35 import TRANS10K
from seethrough.recipe import change, recipe
from seethrough.recipes.training import AdamW, Schedule
from seethrough.recipes.transparency import (
    OneGpu80,
    PlainDataParallel,
    TransparencyData,
    TransparencyLoraChain,
    TransparencyLoraTrain,
)


@recipe
class TransparencySD35Lora(TransparencyLoraChain):
    """Rank 64 on one GPU, at the rate that such updates usually bear."""

    train: TransparencyLoraTrain = change(
        TransparencyLoraTrain,
        data=change(TransparencyData, sources=((TRANS10K, 1),), validation=TRANS10K),
        optim=change(AdamW, lr=1e-4, lr_scaling="none", ema_decay=0.999),
        schedule=change(Schedule, lr_schedule="constant", anneal_steps=1350, validate_every=157),
        deepspeed=change(PlainDataParallel),
        hardware=change(OneGpu80),
    )
