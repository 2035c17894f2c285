"""The embedded scenes with transparent objects, for rehearsals."""

from typing import ClassVar

from seethrough.recipe import PositiveInt, Stage, recipe


@recipe
class GlassScenes(Stage):
    """Puts glass-like objects before photographs and writes them in the layout of Trans10K.

    No photograph serves two splits.
    """

    implementation: ClassVar[str] = "seethrough.tasks.glass_scenes:draw"
    outputs: ClassVar[tuple[str, ...]] = ("scenes",)

    train_count: PositiveInt = 1200
    """Scenes of the training split."""

    validation_count: PositiveInt = 16
    """Scenes of the validation split; half are easy, half hard."""

    test_count: PositiveInt = 64
    """Scenes of the test split, likewise."""

    size: PositiveInt = 64
    """Side of the square photos in px."""

    seed: int = 11
    """Seed of backgrounds, objects and light."""
