"""A loss on decoded pixels beside that of latents.

Hypothesis: the error of latents weighs all of their channels alike and leaves edges soft; what
the frozen decoder makes of them tells which matter.
Base: transparency_sd35. Cost: in each step the decoder's forward and backward pass more, whose
activations at 1024 px are not measured.
"""

from experiments.transparency_sd35 import TransparencySD35
from seethrough.recipe import change, recipe
from seethrough.recipes.transparency import TransparencyObjective, TransparencyTrain


@recipe
class TransparencySD35Pixels(TransparencySD35):
    """Cross-entropy, Dice loss and edges; the weights are a first guess."""

    train: TransparencyTrain = change(
        TransparencyTrain,
        objective=change(TransparencyObjective, bce=0.5, dice=0.5, boundary=0.1),
    )
