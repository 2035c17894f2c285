"""The language that recipes are written in: fields, checks, inheritance, overrides, records.

Imports no torch. A recipe class derives from `Section`, `Stage` or `Experiment` with `@recipe`.
"""

from seethrough.recipe.base import Field, Origin, Recipe
from seethrough.recipe.declare import recipe
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.experiment import Experiment, Section, Stage
from seethrough.recipe.fingerprint import fingerprint
from seethrough.recipe.load import Draft, Resolved, draft, load, reload_recorded, resolve
from seethrough.recipe.merge import change, evolve
from seethrough.recipe.paths import flatten, identity_values
from seethrough.recipe.record import from_record, to_record
from seethrough.recipe.report import Difference, diff, differences, field_help, show
from seethrough.recipe.save import as_code, base_draft, save_as
from seethrough.recipe.text import show_value
from seethrough.recipe.tracked import tracked_reads
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
    "Difference",
    "Draft",
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
    "Resolved",
    "Section",
    "Source",
    "Stage",
    "as_code",
    "base_draft",
    "change",
    "diff",
    "differences",
    "draft",
    "evolve",
    "field_help",
    "fingerprint",
    "flatten",
    "from_record",
    "identity_values",
    "load",
    "recipe",
    "reload_recorded",
    "resolve",
    "save_as",
    "show",
    "show_value",
    "to_record",
    "tracked_reads",
]
