"""Tables for a person: every value with its origin, and what differs between two experiments."""

from collections.abc import Iterator
from typing import Any

import attrs

from seethrough.recipe.base import Field, Origin, Recipe
from seethrough.recipe.kinds import describe
from seethrough.recipe.load import Draft
from seethrough.recipe.merge import same
from seethrough.recipe.paths import flatten, walk
from seethrough.recipe.text import show_value

_WIDEST = 48
"""Columns: a wider value pushes its own origin to the right, not everybody's."""


@attrs.frozen
class Absent:
    """Stands for the value of a path that one of two experiments lacks."""

    def __str__(self) -> str:
        return "(absent)"


@attrs.frozen
class Difference:
    """A path at which two recipes hold different values; a section's own path holds its class."""

    path: str
    a: Any
    b: Any


def differences(a: Recipe, b: Recipe) -> list[Difference]:
    """Every path at which two recipes differ, in the order of `a`, then what only `b` has."""
    left, right = flatten(a), flatten(b)
    found: list[Difference] = []
    for path in dict.fromkeys([*left, *right]):
        one, other = left.get(path, Absent()), right.get(path, Absent())
        if not same(one, other):
            found.append(Difference(path, one, other))
    return found


def show(draft: Draft) -> str:
    """Every value of an experiment and who set it; properties are marked derived."""
    rows: list[tuple[str, str, str]] = []
    for path, value in flatten(draft.experiment).items():
        rows.append((path, show_value(value), str(draft.origins[path])))
    for path, text in derived(draft.experiment):
        rows.append((path, text, "derived"))
    order = {name: index for index, name in enumerate(_groups(draft))}
    rows.sort(key=lambda row: order.get(row[0].partition(".")[0], len(order)))
    return f"{draft.name}: {type(draft.experiment).__name__}\n" + _table(rows)


def _groups(draft: Draft) -> Iterator[str]:
    for node in walk(draft.experiment):
        if "." not in node.path:
            yield node.path


def derived(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Path and text of every property below a recipe."""
    whole = [("", recipe)]
    for node in walk(recipe):
        if isinstance(node.value, Recipe):
            whole.append((node.path + ".", node.value))
    for prefix, part in whole:
        names = dict.fromkeys(
            name
            for cls in reversed(type(part).__mro__)
            for name, member in vars(cls).items()
            if isinstance(member, property) and not name.startswith("_")
        )
        for name in names:
            try:
                text = show_value(getattr(part, name))
            except (ArithmeticError, AttributeError, TypeError, ValueError) as problem:
                # A value that is REQUIRED, or at odds with another: resolving says which.
                text = f"(none: {problem})"
            yield prefix + name, text


def diff(a: Draft, b: Draft) -> str:
    """What differs, side by side, with both origins."""
    found = differences(a.experiment, b.experiment)
    if not found:
        return f"{a.name} and {b.name} hold the same values"
    rows = [("", a.name, b.name)]
    for difference in found:
        rows.append((difference.path, _text(difference.a), _text(difference.b)))
        origins = (_origin(a, difference.path), _origin(b, difference.path))
        rows.append(("", *origins))
    return _table(rows)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, Absent) else show_value(value)


def _origin(draft: Draft, path: str) -> str:
    origin: Origin | None = draft.origins.get(path)
    return "" if origin is None else f"  by {origin}"


def field_help(draft: Draft) -> str:
    """Every field of an experiment that a flag can set."""
    return recipe_help(draft.experiment)


def recipe_help(recipe: Recipe) -> str:
    """Every field of a recipe: what it accepts, its value, and its docstring."""
    lines: list[str] = []
    for node in walk(recipe):
        field: Field = node.field
        value = type(node.value) if isinstance(node.value, Recipe) else node.value
        mark = "  [execution]" if node.execution else ""
        lines.append(f"--{node.path}={show_value(value)}  ({describe(field.kind)}){mark}")
        lines.append(f"    {field.doc}")
    return "\n".join(lines)


def _table(rows: list[tuple[str, str, str]]) -> str:
    widths = [
        max((len(row[column]) for row in rows if len(row[column]) <= _WIDEST), default=0)
        for column in (0, 1)
    ]
    lines = (f"{path:<{widths[0]}}  {a:<{widths[1]}}  {b}" for path, a, b in rows)
    return "\n".join(line.rstrip() for line in lines)
