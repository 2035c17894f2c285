"""The experiment of the engine's tests."""

from seethrough.recipe import recipe
from tests.engine.toy import Toy


@recipe
class Chain(Toy):
    """As it is."""
