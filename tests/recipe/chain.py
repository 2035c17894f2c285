"""An experiment's file for the tests of the command line."""

from seethrough.recipe import change, recipe
from tests.recipe.family import Chain, Train


@recipe
class Longer(Chain):
    """The chain with more steps."""

    first: Train = change(Train, steps=200)
