"""The three kinds of recipes: a section, a stage that holds sections, an experiment of stages."""

from collections.abc import Mapping
from typing import ClassVar

from seethrough.recipe.base import Recipe, values
from seethrough.recipe.declare import recipe
from seethrough.recipe.errors import RecipeError


@recipe
class Section(Recipe):
    """A group of values that belong together: a model, an optimizer, a dataset."""


@recipe
class Stage(Recipe):
    """One step of an experiment, which makes artifacts; its name is its field's name there."""

    implementation: ClassVar[str] = ""
    """The code that runs the stage: `package.module:Class`."""

    outputs: ClassVar[tuple[str, ...]] = ()
    """Names of the artifacts that it makes."""

    resumes: ClassVar[bool] = False
    """Whether it goes on from what an interrupted run left; any other starts in an empty folder."""

    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """What is read of a hub repository, by the field that names it: subfolders, and patterns of
    files. Nothing else of it is fetched; where a field has none, all that models consist of is."""


@recipe
class Experiment(Recipe):
    """A chain of stages, held as fields and run in their order."""

    def stages(self) -> dict[str, Stage]:
        """The stages by name, in the order in which they run."""
        return {name: value for name, value in values(self).items() if isinstance(value, Stage)}

    def rehearsal(self) -> "Experiment":
        """The same experiment at a size that a CPU runs in minutes; recipes say how."""
        raise RecipeError(
            f"{type(self).__name__} has no rehearsal; define rehearsal() in a recipe class"
        )
