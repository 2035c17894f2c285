"""Overrides by path: `--train_3d.optim.lr=2e-5`, parsed by the field's annotated type."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from seethrough.recipe.base import Field, Origin, Recipe, facts, values
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.kinds import Mismatch, describe, element_kind, recipe_classes
from seethrough.recipe.merge import carry, checked, show
from seethrough.recipe.origins import Given, children
from seethrough.recipe.paths import flatten, nearest_paths
from seethrough.recipe.text import parse, show_value

R = TypeVar("R", bound=Recipe)


@attrs.define
class _Flag:
    """The text given for a path, if any, and the flags for the paths below it."""

    text: str | None = None
    below: "dict[str, _Flag]" = attrs.field(factory=lambda: dict[str, _Flag]())


def override(recipe: R, flags: Iterable[tuple[str, str]]) -> tuple[R, dict[str, Given]]:
    """Apply (path, text) pairs; also returns who gave what, for the origins.

    Raises `RecipeError` for an unknown path, a repeated one, and a value that its field refuses.
    """
    root = _Flag()
    for path, text in flags:
        place = root
        for part in path.split("."):
            place = place.below.setdefault(part, _Flag())
        if place.text is not None:
            raise RecipeError(
                f"--{path}: given twice, {place.text!r} and {text!r}; give each path once"
            )
        place.text = text
    known = list(flatten(recipe))
    return _fields(recipe, root, "", known), _given(root, "")


def _given(flag: _Flag, path: str) -> dict[str, Given]:
    """The tree of origins that the flags stand for."""
    found: dict[str, Given] = {}
    for name, inner in flag.below.items():
        full = f"{path}.{name}" if path else name
        origin = None if inner.text is None else Origin(f"--{full}")
        found[name] = Given(origin, _given(inner, full))
    return found


def _fields(recipe: R, flag: _Flag, path: str, known: list[str]) -> R:
    """The recipe with the flags below it applied; `path` ends with a dot unless empty."""
    new = values(recipe)
    for name, inner in flag.below.items():
        full = path + name
        if name not in new:
            raise _unknown(full, inner, [*known, *(path + field for field in new)])
        field = facts(type(recipe)).fields[name]
        new[name] = _value(new[name], field, inner, full, known)
    return type(recipe)(**new)


def _value(old: Any, field: Field, flag: _Flag, path: str, known: list[str]) -> Any:
    start, asked = _start(old, field, flag, path)
    if not flag.below:
        _refuse_asked(asked, flag, path)
        return start
    if isinstance(start, Recipe):
        _refuse_asked(asked, flag, path)
        inner = list(dict.fromkeys([*known, *(f"{path}.{p}" for p in flatten(start))]))
        return _fields(start, flag, path + ".", inner)
    elements = children(start)
    if elements is None:
        first = next(iter(flag.below))
        if recipe_classes(field.kind):
            raise RecipeError(
                f"--{path}.{first}: {path} is {show_value(start)}; choose its class too: "
                f"--{path}={' or '.join(c.__name__ for c in recipe_classes(field.kind))}"
            )
        raise _unknown(f"{path}.{first}", flag.below[first], known)
    for index, inner in flag.below.items():
        full = f"{path}.{index}"
        if index not in elements:
            raise _unknown(full, inner, known)
        kinds = tuple(element_kind(kind, int(index)) for kind in field.kinds)
        element = attrs.evolve(field, kinds=kinds)
        elements[index] = _value(elements[index], element, inner, full, known)
    return tuple(elements.values())


def _start(
    old: Any, field: Field, flag: _Flag, path: str
) -> tuple[Any, Mapping[str, tuple[Any, Any]]]:
    """The value that the flag's own text gives, and the fields about which it leaves a doubt."""
    classes = recipe_classes(field.kind)
    if flag.text is None:
        return old, {}
    for cls in _with_subclasses(classes):
        if cls.__name__ == flag.text:
            if type(old) is cls:
                return old, {}
            return carry(old, cls) if isinstance(old, Recipe) else (facts(cls).default, {})
    try:
        return checked(field.kinds, parse(field.kind, flag.text), f"--{path}"), {}
    except Mismatch as problem:
        detail = str(problem)
        kind = describe(field.kind)
        why = "" if detail.removeprefix("expected ") in kind else f" ({detail})"
        raise RecipeError(
            f"--{path}: given {flag.text!r}; accepted: {kind}{why}; now {show_value(_shown(old))}"
        ) from None


def _with_subclasses(classes: Iterable[type[Recipe]]) -> list[type[Recipe]]:
    """The classes and every recipe derived from them; a slotted class's first copy is none."""
    found: list[type[Recipe]] = []
    for cls in classes:
        if "__recipe__" in cls.__dict__:
            found.append(cls)
        found += _with_subclasses(cls.__subclasses__())
    return list(dict.fromkeys(found))


def _shown(value: Any) -> Any:
    return type(value) if isinstance(value, Recipe) else value


def _refuse_asked(asked: Mapping[str, tuple[Any, Any]], flag: _Flag, path: str) -> None:
    """A chosen class with its own default for a field that was set before: ask which."""
    for name, (was, own) in asked.items():
        place: _Flag | None = flag
        for part in name.split("."):
            place = place.below.get(part) if place else None
        if place is None or place.text is None:
            raise RecipeError(
                f"--{path}={flag.text}: {path}.{name} was set to {show(was)}, but {flag.text} has "
                f"its own default {show(own)}; say which with --{path}.{name}=..."
            )


def _unknown(path: str, flag: _Flag, known: list[str]) -> RecipeError:
    given = path
    while flag.below and flag.text is None:
        name, flag = next(iter(flag.below.items()))
        given += f".{name}"
    return RecipeError(f"--{given}: no such field; {nearest_paths(given, known)}")
