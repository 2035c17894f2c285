"""The root of every recipe class, and what the language knows about a class and its fields."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import attrs

from seethrough.recipe.errors import RecipeError
from seethrough.recipe.source import ClassSource, caller, read_class, shown_path
from seethrough.recipe.values import REQUIRED


@attrs.frozen
class Origin:
    """Who set a value: a class and the line in its file, or a flag of the command line."""

    by: str
    """Qualified name of the class or rule, or the flag itself."""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return f"{self.by} (command line)"
        return f"{self.by} {shown_path(self.file)}:{self.line}"


@attrs.frozen
class Field:
    """What the language knows about one field of a recipe class."""

    name: str
    kinds: tuple[Any, ...]
    """The annotation, then those that it overrides: a value has to satisfy each of them."""
    doc: str
    execution: bool
    """True when the field says how a run is carried out, not what it computes."""

    @property
    def kind(self) -> Any:
        """The annotation in force."""
        return self.kinds[0]


@attrs.frozen(eq=False)
class ClassFacts:
    """The side table of one recipe class, made with the class."""

    fields: Mapping[str, Field]
    """In the order of definition; an override keeps the place of the field that it overrides."""
    origins: Mapping[str, Origin]
    """For every path below an instance made of defaults alone."""
    default: "Recipe"
    """The instance made of defaults alone."""
    source: ClassSource


class Recipe:
    """Root of all recipe classes: frozen, keyword-only, slotted; derive from it with `@recipe`."""

    __slots__ = ()
    __recipe__: ClassVar[ClassFacts]

    def __init_subclass__(cls) -> None:
        """Refuse a subclass without `@recipe`: attrs would drop its fields in silence."""
        super().__init_subclass__()
        if "__attrs_attrs__" in cls.__dict__:
            return  # attrs makes a slotted class twice; the decorator has been at work already
        source = read_class(cls, caller(1))
        if not source.decorated:
            raise RecipeError(
                f"{source.place()}: {cls.__qualname__} derives from a recipe but has no @recipe; "
                f"write @recipe above the class"
            )

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field path below this recipe, problem) for each rule across fields that fails.

        Runs when an experiment is resolved, once no REQUIRED value is left in this recipe.
        """
        return iter(())


def facts(cls: type[Recipe]) -> ClassFacts:
    """The side table of a class that `@recipe` made."""
    return cls.__recipe__


def get(instance: Recipe, name: str) -> Any:
    """Read a field for the language's own purposes, so that it does not count as a use of it."""
    return object.__getattribute__(instance, name)


def values(instance: Recipe) -> dict[str, Any]:
    """The instance's own field values by name, in field order."""
    return {name: get(instance, name) for name in facts(type(instance)).fields}


def is_required(value: object) -> bool:
    """Whether `value` is REQUIRED."""
    return value is REQUIRED
