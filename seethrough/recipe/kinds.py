"""What an annotation accepts: the kinds of fields, the check of values, and words for messages."""

import enum
import math
import types
from typing import Annotated, Any, Literal, TypeGuard, Union, cast, get_args, get_origin

from seethrough.recipe.base import Recipe
from seethrough.recipe.values import REQUIRED, SOURCE_FORMS, ExecutionMark, Range

PLAIN = (bool, int, float, str)
_WORDS: dict[Any, str] = {bool: "true or false", type(None): "none"}


class Mismatch(Exception):
    """A value that a kind does not accept; the text says what was expected."""


def is_class(kind: Any, of: type) -> TypeGuard[type]:
    """Whether `kind` is a class derived from `of`, not a generic alias."""
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, of)


def members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, else the kind alone."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for member in get_args(kind) for part in members(member))
    return (kind,)


def split(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Take `Annotated[kind, *marks]` apart."""
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        return inner, tuple(marks)
    return kind, ()


def is_execution(kind: Any) -> bool:
    """Whether the annotation is written `Execution[...]`."""
    return any(isinstance(mark, ExecutionMark) for mark in split(kind)[1])


def recipe_classes(kind: Any) -> tuple[type[Recipe], ...]:
    """The recipe classes that a kind names, itself or as members of its union."""
    found: list[type[Recipe]] = []
    for member in members(split(kind)[0]):
        plain = split(member)[0]
        if is_class(plain, Recipe):
            found.append(plain)
    return tuple(found)


def unsupported(kind: Any) -> str | None:
    """Why a field cannot have this annotation; None when it can."""
    kind, marks = split(kind)
    parts = members(kind)
    if len(parts) > 1:
        return next((why for part in parts if (why := unsupported(part))), None)
    if any(isinstance(mark, Range) for mark in marks) and kind not in (int, float):
        return f"Range bounds int and float, not {spell(kind)}"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and arguments:
        return next((w for a in arguments if a is not ... and (w := unsupported(a))), None)
    if origin is Literal or kind in PLAIN or kind is type(None) or kind in SOURCE_FORMS:
        return None
    if is_class(kind, enum.Enum) or is_class(kind, Recipe):
        return None
    if isinstance(kind, str):
        return f"the annotation {kind!r} is a string; write it without quotes"
    if (origin or kind) in (list, set, dict, tuple):
        return f"{spell(kind)} is not supported: use tuple[..., ...] with the kind of its elements"
    return f"{spell(kind)} is not a kind that a recipe can hold"


def accept(kind: Any, value: Any) -> Any:
    """Return `value` as the kind holds it (an int becomes a float), or raise `Mismatch`.

    Strict: a bool is no int, a text no number. REQUIRED passes.
    """
    if value is REQUIRED:
        return value
    kind, marks = split(kind)
    parts = members(kind)
    if len(parts) > 1:
        return _accept_union(parts, value)
    bounds = [mark for mark in marks if isinstance(mark, Range)]
    taken = _accept_one(kind, value, "".join(f" {mark}" for mark in bounds))
    if not all(mark.holds(taken) for mark in bounds):
        raise Mismatch(f"expected {describe(Annotated[kind, *bounds])}")
    return taken


def _accept_union(parts: tuple[Any, ...], value: Any) -> Any:
    problems: list[str] = []
    converted: list[Any] = []
    for part in parts:
        try:
            taken = accept(part, value)
        except Mismatch as problem:
            problems.append(str(problem).removeprefix("expected "))
            continue
        if type(taken) is type(value):
            return taken
        converted.append(taken)
    if converted:
        return converted[0]
    raise Mismatch("expected " + " or ".join(dict.fromkeys(problems)))


def _accept_one(kind: Any, value: Any, bounds: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, tuple):
        elements = cast(tuple[Any, ...], value)
        kinds = _element_kinds(arguments, len(elements))
        if kinds is not None:
            return tuple(map(accept, kinds, elements))
    elif origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif kind is float and type(value) in (int, float):
        if math.isfinite(value):
            return float(value)
    elif kind in PLAIN:
        if type(value) is kind:
            return value
    elif isinstance(kind, type) and origin is None and isinstance(value, kind):
        return value
    raise Mismatch(f"expected {describe(kind)}{bounds}")


def _element_kinds(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...] | None:
    """The kind of each of `count` elements, None when a tuple has another length."""
    if len(arguments) == 2 and arguments[1] is ...:
        return (arguments[0],) * count
    return arguments if len(arguments) == count else None


def element_kind(kind: Any, index: int) -> Any:
    """The kind of the element at `index` of the tuple among the members of `kind`."""
    for member in members(split(kind)[0]):
        plain = split(member)[0]
        if get_origin(plain) is tuple:
            arguments = get_args(plain)
            variadic = len(arguments) == 2 and arguments[1] is ...
            return arguments[0] if variadic else arguments[index]
    raise Mismatch(f"expected {describe(kind)}")


def narrower(kind: Any, base: Any) -> bool:
    """Whether every value of `kind`, marks aside, is one of `base`."""
    kind, base = split(kind)[0], split(base)[0]
    if len(members(kind)) > 1 or len(members(base)) > 1:
        return all(any(_narrower(k, b) for b in members(base)) for k in members(kind))
    return _narrower(kind, base)


def _narrower(kind: Any, base: Any) -> bool:
    kind, base = split(kind)[0], split(base)[0]
    if kind == base:
        return True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if get_origin(base) is Literal:
            return set(arguments) <= set(get_args(base))
        return all(type(choice) is base for choice in arguments)
    if origin is tuple and get_origin(base) is tuple:
        count = len(arguments)
        if count == 2 and arguments[1] is ...:
            wider = get_args(base)
            return len(wider) == 2 and wider[1] is ... and narrower(arguments[0], wider[0])
        kinds = _element_kinds(get_args(base), count)
        return kinds is not None and all(map(narrower, arguments, kinds))
    return isinstance(base, type) and base not in PLAIN and is_class(kind, base)


def describe(kind: Any) -> str:
    """The kind in words, for messages and help: what may be written there."""
    kind, marks = split(kind)
    parts = members(kind)
    bounds = "".join(f" {mark}" for mark in marks if isinstance(mark, Range))
    if len(parts) > 1:
        return " or ".join(describe(part) for part in parts)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if is_class(kind, enum.Enum):
        return "one of " + ", ".join(member.name for member in cast(type[enum.Enum], kind))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return f"a tuple of {describe(arguments[0])}"
        return "a tuple (" + ", ".join(describe(a) for a in arguments) + ")"
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in SOURCE_FORMS:
        return SOURCE_FORMS[kind]
    return spell(kind) + bounds


def spell(kind: Any) -> str:
    """The kind as Python source, marks left out."""
    kind, _ = split(kind)
    parts = members(kind)
    if len(parts) > 1:
        return " | ".join(spell(part) for part in parts)
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is type(None):
        return "None"
    if origin is Literal:
        return "Literal[" + ", ".join(_quoted(choice) for choice in arguments) + "]"
    if origin is not None:
        inner = ", ".join("..." if a is ... else spell(a) for a in arguments)
        return f"{origin.__name__}[{inner}]"
    return getattr(kind, "__name__", repr(kind))


def _quoted(choice: object) -> str:
    return '"' + choice + '"' if isinstance(choice, str) and '"' not in choice else repr(choice)
