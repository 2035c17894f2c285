"""Values as text on the command line: parsed by annotated type, and written back."""

import ast
import enum
import math
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import cattrs

from seethrough.recipe.base import Recipe
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.kinds import (
    Mismatch,
    accept,
    describe,
    element_kind,
    is_class,
    members,
    split,
)
from seethrough.recipe.merge import same
from seethrough.recipe.values import SOURCE_FORMS, Hub, Local, Output

_INT = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OPEN, _CLOSE = "([", ")]"
_SPECIAL = re.compile(r"[,()\[\]'\"]|^\s|\s$|^$")


def parse(kind: Any, text: str) -> Any:
    """Read `text` as a value of `kind`; raises `Mismatch` saying what is accepted.

    Text may stand in quotes, and has to where it would read as something else of the kind.
    """
    try:
        return accept(kind, _CONVERTER.structure(text, kind))
    except RecipeError:
        raise Mismatch(f"expected {describe(kind)}") from None


def write(kind: Any, value: Any) -> str:
    """The text that `parse` reads back as `value`."""
    if isinstance(value, tuple):
        elements = cast(tuple[Any, ...], value)
        parts = [_write_element(kind, index, e) for index, e in enumerate(elements)]
        return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
    if isinstance(value, str):
        try:
            plain = same(parse(kind, value), value)
        except Mismatch:
            plain = False
        return value if plain else repr(value)
    return show_value(value)


def _write_element(kind: Any, index: int, value: Any) -> str:
    text = write(element_kind(kind, index), value)
    if isinstance(value, str) and text == value and _SPECIAL.search(text):
        return repr(value)
    if isinstance(value, Local) and _SPECIAL.search(value.path):
        return f"file:{value.path!r}"
    return text


def show_value(value: Any) -> str:
    """A value as a reader of tables sees it."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple):
        elements = cast(tuple[Any, ...], value)
        inner = ", ".join(show_value(element) for element in elements)
        return f"({inner}{',' if len(elements) == 1 else ''})"
    if isinstance(value, Local) and _is_quoted(value.path):
        return f"file:{value.path!r}"
    return repr(value) if isinstance(value, float) else str(value)


def _is_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""


def _unquote(text: str) -> str:
    if not _is_quoted(text):
        return text
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        raise Mismatch(f"expected text whose quotes close: {text}") from None


def _int(text: str, _: Any) -> int:
    if not _INT.fullmatch(text):
        raise Mismatch("expected int")
    return int(text)


def _float(text: str, _: Any) -> float:
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
        raise Mismatch("expected float")
    return float(text)


def _bool(text: str, _: Any) -> bool:
    if text not in ("true", "false"):
        raise Mismatch("expected true or false")
    return text == "true"


def _none(text: str, _: Any) -> None:
    if text != "none":
        raise Mismatch("expected none")


def _str(text: str, _: Any) -> str:
    return _unquote(text)


def _enum(text: str, kind: Any) -> enum.Enum:
    if text not in kind.__members__:
        raise Mismatch(f"expected {describe(kind)}")
    return kind.__members__[text]


def _literal(text: str, kind: Any) -> Any:
    for choice in get_args(kind):
        try:
            if same(parse(cast(Any, type(choice)), text), choice):
                return choice
        except Mismatch:
            continue
    raise Mismatch(f"expected {describe(kind)}")


def _source(text: str, kind: Any) -> Any:
    head, _, rest = text.partition(":")
    if kind is Hub and head == "hub":
        repo, at, revision = rest.partition("@")
        return Hub(repo, revision if at else None)
    if kind is Local and head == "file":
        return Local(_unquote(rest))
    if kind is Output and head == "stage":
        stage, _, artifact = rest.partition("/")
        return Output(stage, artifact)
    raise Mismatch(f"expected {describe(kind)}")


def _recipe(text: str, kind: Any) -> Any:
    """A section has no text form: which class it has is chosen by name, where it lies."""
    raise Mismatch(f"expected {describe(kind)}")


def _annotated(text: str, kind: Any) -> Any:
    return accept(kind, _CONVERTER.structure(text, split(kind)[0]))


def _tuple(text: str, kind: Any) -> Any:
    arguments = get_args(kind)
    parts = _elements(text)
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = (arguments[0],) * len(parts)
    if len(arguments) != len(parts):
        raise Mismatch(f"expected {describe(kind)}")
    return tuple(_CONVERTER.structure(p, k) for p, k in zip(parts, arguments, strict=True))


def _union(text: str, kind: Any) -> Any:
    parts = sorted(members(kind), key=_rank)
    if _is_quoted(text) and any(split(part)[0] is str for part in parts):
        parts = [part for part in parts if split(part)[0] is str]
    for part in parts:
        try:
            return parse(part, text)
        except Mismatch:
            continue
    raise Mismatch(f"expected {describe(kind)}")


def _rank(kind: Any) -> int:
    """The order in which a union tries its members: the strictest first, free text last."""
    kind = split(kind)[0]
    if get_origin(kind) is Literal or is_class(kind, enum.Enum):
        return 1
    order: tuple[Any, ...] = (type(None), Literal, bool, int, float, *SOURCE_FORMS, tuple)
    if kind is str or is_class(kind, Recipe):
        return len(order)
    return order.index(get_origin(kind) or kind)


def _elements(text: str) -> list[str]:
    """Split `a, b`, `(a, b)` or `[a, b]` at the commas that no bracket or quote encloses."""
    pieces = _split(text)
    if len(pieces) == 1 and text[:1] in _OPEN and text[:1]:
        pieces = _split(text.strip()[1:-1])
    if pieces and not pieces[-1]:
        pieces.pop()
    if "" in pieces:
        raise Mismatch("expected a value between two commas")
    return pieces


def _split(text: str) -> list[str]:
    pieces, depth, quote, start = list[str](), list[str](), "", 0
    skip = False
    for index, char in enumerate(text):
        if skip:
            skip = False
        elif quote:
            skip = char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPEN:
            depth.append(_CLOSE[_OPEN.index(char)])
        elif char in _CLOSE:
            if not depth or depth.pop() != char:
                raise Mismatch("expected brackets that match")
        elif char == "," and not depth:
            pieces.append(text[start:index].strip())
            start = index + 1
    if depth or quote:
        raise Mismatch("expected brackets and quotes that close")
    return [*pieces, text[start:].strip()]


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(int, _int)
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(bool, _bool)
    converter.register_structure_hook(str, _str)
    converter.register_structure_hook(type(None), _none)
    hooks: list[tuple[Callable[[Any], bool], Callable[[str, Any], Any]]] = [
        (lambda kind: is_class(kind, enum.Enum), _enum),
        (lambda kind: get_origin(kind) is Literal, _literal),
        (lambda kind: kind in SOURCE_FORMS, _source),
        (lambda kind: is_class(kind, Recipe), _recipe),
        (lambda kind: get_origin(kind) is tuple, _tuple),
        (lambda kind: get_origin(kind) in (Union, types.UnionType), _union),
        (lambda kind: get_origin(kind) is Annotated, _annotated),
    ]
    for predicate, hook in hooks:
        converter.register_structure_hook_func(predicate, hook)
    return converter


_CONVERTER = _make_converter()
