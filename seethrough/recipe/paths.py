"""An experiment as a tree: its paths, its values by path, and the search for a path."""

import difflib
from collections.abc import Iterator
from typing import Any

import attrs

from seethrough.recipe.base import Field, Recipe, facts, get, values
from seethrough.recipe.kinds import element_kind
from seethrough.recipe.origins import children
from seethrough.recipe.text import show_value


@attrs.frozen
class Node:
    """One place in the tree: a section, an element of a tuple of sections, or a leaf."""

    path: str
    value: Any
    field: Field
    execution: bool
    """True when this or a field above it is marked `Execution`."""

    @property
    def is_tuple(self) -> bool:
        """Whether the value is a tuple."""
        return isinstance(self.value, tuple)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing lies below."""
        return children(self.value) is None


def walk(recipe: Recipe, prefix: str = "", execution: bool = False) -> Iterator[Node]:
    """All places below `recipe`, parents before children, in field order."""
    for name, field in facts(type(recipe)).fields.items():
        yield from _walk(get(recipe, name), field, prefix + name, execution or field.execution)


def _walk(value: Any, field: Field, path: str, execution: bool) -> Iterator[Node]:
    yield Node(path, value, field, execution)
    if isinstance(value, Recipe):
        yield from walk(value, path + ".", execution)
    else:
        for name, child in (children(value) or {}).items():
            kinds = tuple(element_kind(kind, int(name)) for kind in field.kinds)
            element = attrs.evolve(field, kinds=kinds)
            yield from _walk(child, element, f"{path}.{name}", execution)


def flatten(recipe: Recipe, *, identity: bool = False) -> dict[str, Any]:
    """Values by path; a section's own path holds its class.

    With `identity`, fields marked `Execution` are left out.
    """
    flat: dict[str, Any] = {}
    for node in walk(recipe):
        if identity and node.execution:
            continue
        if isinstance(node.value, Recipe):
            flat[node.path] = type(node.value)
        elif node.is_leaf:
            flat[node.path] = node.value
    return flat


def identity_values(recipe: Recipe) -> dict[str, str]:
    """What the result depends on, as text by path: all values but those marked `Execution`."""
    return {path: show_value(v) for path, v in flatten(recipe, identity=True).items()}


def unshare(recipe: Recipe) -> Recipe:
    """An equal recipe in which no two places hold the same section object."""

    def fresh(value: Any) -> Any:
        if isinstance(value, Recipe):
            return unshare(value)
        below = children(value)
        return value if below is None else tuple(map(fresh, below.values()))

    return type(recipe)(**{name: fresh(value) for name, value in values(recipe).items()})


def nearest_paths(path: str, known: list[str]) -> str:
    """Say which known paths a mistyped one may have meant."""
    known = list(dict.fromkeys(known))
    last = path.rpartition(".")[2]
    namesakes = [p for p in known if "." in path and p.rpartition(".")[2] == last]
    close = difflib.get_close_matches(path, namesakes, n=2, cutoff=0.4)
    close += difflib.get_close_matches(path, known, n=3, cutoff=0.7)
    close = list(dict.fromkeys(close))[:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    parent = path.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    depth = parent.count(".") + 1 if parent else 0
    start = parent + "." if parent else ""
    siblings = [p for p in known if p.startswith(start) and p.count(".") == depth]
    return f"known{' below ' + parent if parent else ''}: {', '.join(siblings)}"
