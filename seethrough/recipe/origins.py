"""Who set which value: traced once per class or run, beside the values, never around them."""

from collections.abc import Mapping
from typing import Any, cast

import attrs

from seethrough.recipe.base import Origin, Recipe, facts, get, values
from seethrough.recipe.merge import same
from seethrough.recipe.source import Lines


@attrs.frozen
class Given:
    """The assignments in force: who made this one, if any did, and those to the fields below."""

    origin: Origin | None
    below: Mapping[str, "Given"] = attrs.field(factory=dict[str, "Given"])


@attrs.frozen
class Reference:
    """A value with known origins, which another value may have taken its own from."""

    value: Any
    origins: Mapping[str, Origin]
    """By path below the value."""

    def below(self, name: str) -> "Reference | None":
        """The reference for a field or for an element of a tuple; None where it has none."""
        if isinstance(self.value, Recipe) and name in facts(type(self.value)).fields:
            value = get(self.value, name)
        elif isinstance(self.value, tuple) and name.isdecimal() and int(name) < len(self._tuple):
            value = self._tuple[int(name)]
        else:
            return None
        start = name + "."
        inner = {p[len(start) :]: o for p, o in self.origins.items() if p.startswith(start)}
        return Reference(value, inner)

    @property
    def _tuple(self) -> tuple[Any, ...]:
        return cast(tuple[Any, ...], self.value)


def given_in_class(lines: Lines, by: str, file: str) -> Given:
    """The assignment of a class body, with the keywords of the calls in it."""
    below = {name: given_in_class(inner, by, file) for name, inner in lines.keywords.items()}
    return Given(Origin(by, file, lines.line), below)


def defaults_of(cls: type[Recipe]) -> Reference:
    """The instance of defaults alone, whose origins are the class's own."""
    return Reference(facts(cls).default, facts(cls).origins)


def children(value: Any) -> dict[str, Any] | None:
    """Fields of a recipe or elements of a tuple that holds recipes; None for a leaf."""
    if isinstance(value, Recipe):
        return values(value)
    if isinstance(value, tuple):
        elements = cast(tuple[Any, ...], value)
        if any(isinstance(element, Recipe) for element in elements):
            return {str(index): element for index, element in enumerate(elements)}
    return None


def trace(
    value: Any, here: Origin, given: Mapping[str, Given], references: list[Reference]
) -> dict[str, Origin]:
    """Origins by path below `value`.

    An assignment in `given` wins; else the first reference that holds the same value there says
    where it came from; else `here`, the assignment that made `value` as a whole.
    """
    if isinstance(value, Recipe):
        like = [r for r in references if type(r.value) is type(value)]
        other = [r for r in references if type(r.value) is not type(value)]
        references = [*like, defaults_of(type(value)), *other]
    found: dict[str, Origin] = {}
    for name, child in (children(value) or {}).items():
        inner = [r for reference in references if (r := reference.below(name)) is not None]
        assigned = given.get(name)
        known = _known(name, child, references)
        origin = (assigned.origin if assigned else None) or known or here
        found[name] = origin
        if isinstance(child, Recipe) and references:
            # A section's own row says who chose its class, not who changed a field in it.
            before = references[0].below(name)
            if before is not None and type(before.value) is type(child):
                found[name] = references[0].origins.get(name, origin)
        below = trace(child, origin, assigned.below if assigned else {}, inner)
        found |= {f"{name}.{path}": origin for path, origin in below.items()}
    return found


def _known(name: str, child: Any, references: list[Reference]) -> Origin | None:
    for reference in references:
        inner = reference.below(name)
        if inner is None or name not in reference.origins:
            continue
        alike = type(inner.value) is type(child) if isinstance(child, Recipe) else False
        if alike or same(inner.value, child):
            return reference.origins[name]
    return None
