"""The embedded characters: layered art drawn from a pip package."""

from typing import ClassVar

from seethrough.recipe import PositiveInt, Stage, recipe


@recipe
class Characters(Stage):
    """Draws characters part by part and writes them in the published sample layout.

    Training and test characters share no combination of parts.
    """

    implementation: ClassVar[str] = "seethrough.tasks.characters:draw"
    outputs: ClassVar[tuple[str, ...]] = ("train", "test")

    train_count: PositiveInt = 1200
    """Characters to train on."""

    test_count: PositiveInt = 32
    """Characters to test on."""

    size: PositiveInt = 64
    """Side of the square page in px."""

    seed: int = 7
    """Seed of parts, colours, poses and drawing order."""
