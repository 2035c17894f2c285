"""The language that recipes are written in: fields, checks, inheritance, overrides, records.

Imports no torch. A recipe class derives from `Section`, `Stage` or `Experiment` with `@recipe`.
"""

from seethrough.recipe.base import Field, Origin, Recipe
from seethrough.recipe.declare import recipe
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.experiment import Experiment, Section, Stage
from seethrough.recipe.merge import change, evolve
from seethrough.recipe.values import (
    REQUIRED,
    Execution,
    Fraction,
    Hub,
    Local,
    NonNegativeFloat,
    NonNegativeInt,
    Output,
    PositiveFloat,
    PositiveInt,
    Range,
    Source,
)

__all__ = [
    "REQUIRED",
    "Execution",
    "Experiment",
    "Field",
    "Fraction",
    "Hub",
    "Local",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Origin",
    "Output",
    "PositiveFloat",
    "PositiveInt",
    "Range",
    "Recipe",
    "RecipeError",
    "Section",
    "Source",
    "Stage",
    "change",
    "evolve",
    "recipe",
]
