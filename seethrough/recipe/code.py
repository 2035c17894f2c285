"""Writes an experiment as Python: a subclass that says only what differs from its base."""

import enum
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args, get_origin

import attrs

from seethrough.recipe.base import Recipe, facts, get, is_required, values
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.experiment import Experiment
from seethrough.recipe.kinds import spell, split
from seethrough.recipe.merge import carry, same
from seethrough.recipe.values import Hub, Local, Output

_WIDTH = 100
_LANGUAGE = "seethrough.recipe"


@attrs.frozen
class _Call:
    """An expression with arguments: a call, or a tuple when it has no name."""

    name: str
    arguments: tuple[tuple[str, "_Call | str"], ...]

    def flat(self) -> str:
        inner = ", ".join(
            key + (value if isinstance(value, str) else value.flat())
            for key, value in self.arguments
        )
        comma = "," if not self.name and len(self.arguments) == 1 else ""
        return f"{self.name}({inner}{comma})"

    def lines(self, indent: int, used: int) -> str:
        """The expression on one line where `used` columns and it fit, else one argument a line."""
        if used + len(self.flat()) <= _WIDTH or not self.arguments:
            return self.flat()
        pad = " " * (indent + 4)
        parts = [
            pad + key + _lines(value, indent + 4, indent + 5 + len(key))
            for key, value in self.arguments
        ]
        return f"{self.name}(\n" + ",\n".join(parts) + ",\n" + " " * indent + ")"


def _lines(value: _Call | str, indent: int, used: int) -> str:
    return value if isinstance(value, str) else value.lines(indent, used)


class _Writer:
    """Collects the imports that the expressions written with it need."""

    def __init__(self) -> None:
        self.imports: dict[str, set[str]] = {}

    def name(self, cls: type) -> str:
        """The name of a class, imported."""
        if cls.__module__ == "builtins":
            return cls.__name__
        if "." in cls.__qualname__:
            raise RecipeError(
                f"{cls.__qualname__}: a class inside another one cannot be imported; "
                f"move it to the level of its file"
            )
        module = _LANGUAGE if cls in (Hub, Local, Output) else cls.__module__
        return self.take(module, cls.__name__)

    def take(self, module: str, name: str) -> str:
        for other, names in self.imports.items():
            if name in names and other != module:
                raise RecipeError(f"two classes have the name {name}: in {other} and in {module}")
        self.imports.setdefault(module, set()).add(name)
        return name

    def annotation(self, kind: Any) -> str:
        """A field's annotation, marks left to the base."""
        for part in _named(kind):
            if part == "Literal":
                self.take("typing", "Literal")
            else:
                self.name(cast(type, part))
        return spell(kind)

    def value(self, value: Any) -> "_Call | str":
        """An expression that makes the value from nothing."""
        if is_required(value):
            return self.take(_LANGUAGE, "REQUIRED")
        if isinstance(value, Recipe):
            default = facts(type(value)).default
            return self.call(
                self.name(type(value)),
                {k: v for k, v in values(value).items() if not same(v, get(default, k))},
            )
        if isinstance(value, tuple):
            elements = cast(tuple[Any, ...], value)
            return _Call("", tuple(("", self.value(element)) for element in elements))
        if isinstance(value, Hub | Local | Output):
            given = [part for part in attrs.astuple(value) if part is not None]
            return f"{self.name(type(value))}({', '.join(map(_literal, given))})"
        if isinstance(value, enum.Enum):
            return f"{self.name(type(value))}.{value.name}"
        return _literal(value)

    def call(self, name: str, fields: Mapping[str, Any]) -> _Call:
        return _Call(name, tuple((f"{key}=", self.value(v)) for key, v in fields.items()))

    def change(self, old: Any, new: Any) -> "_Call | str":
        """An expression that makes `new` where `old` is inherited."""
        if not isinstance(new, Recipe) or not isinstance(old, Recipe | None):
            return self.value(new)
        if old is None:
            return self.value(new)
        if type(old) is type(new):
            start, asked = old, cast(dict[str, Any], {})
        elif isinstance(old, type(new)):
            raise RecipeError(
                f"{type(new).__name__} is a base of {type(old).__name__}: no change goes back to it"
            )
        else:
            start, asked = carry(old, type(new))
        return _Call(self.take(_LANGUAGE, "change"), (
            ("", self.name(type(new))), *self.changes(start, new, asked)))  # fmt: skip

    def changes(
        self, start: Recipe, new: Recipe, asked: Mapping[str, Any]
    ) -> Iterator[tuple[str, "_Call | str"]]:
        """The keywords that lead from `start` to `new`; `asked` paths are always named."""
        for name, value in values(new).items():
            below = {p.partition(".")[2]: v for p, v in asked.items() if p.startswith(name + ".")}
            old = get(start, name)
            if below and isinstance(value, Recipe) and type(old) is type(value):
                inner = tuple(self.changes(old, value, below))
                head = ("", self.name(type(value)))
                yield f"{name}=", _Call(self.take(_LANGUAGE, "change"), (head, *inner))
            elif name in asked or not same(old, value):
                yield f"{name}=", self.change(old, value)


def _named(kind: Any) -> Iterator[Any]:
    """The classes that an annotation names, and "Literal"."""
    kind = split(kind)[0]
    origin = get_origin(kind)
    if origin is None:
        if isinstance(kind, type) and kind is not type(None):
            yield kind
        return
    if spell(kind).startswith("Literal["):
        yield "Literal"
        return
    for argument in get_args(kind):
        if argument is not ...:
            yield from _named(argument)


def _literal(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in value:
        return '"' + text[1:-1].replace("\\'", "'") + '"'
    return text


def subclass_code(base: Experiment, new: Experiment, name: str, title: str) -> str:
    """A Python file whose experiment `name` derives from the class of `base` and equals `new`.

    `base` is its class's instance of defaults. Raises `RecipeError` when `new` has fields that
    the base has not, or lacks some.
    """
    ours, theirs = set(facts(type(base)).fields), set(facts(type(new)).fields)
    if ours != theirs:
        raise RecipeError(
            f"{type(new).__name__} is no change of {type(base).__name__}: only one of them has "
            f"{', '.join(sorted(ours ^ theirs))}"
        )
    writer = _Writer()
    body: list[str] = []
    parent = writer.name(type(base))
    writer.take(_LANGUAGE, "recipe")
    changed: list[str] = []
    for field in facts(type(base)).fields.values():
        old, value = get(base, field.name), get(new, field.name)
        if same(old, value):
            continue
        changed.append(field.name)
        head = f"    {field.name}: {writer.annotation(field.kind)} = "
        body.append(head + _lines(writer.change(old, value), 4, len(head)))
    imports = "\n".join(_imports(writer.imports))
    doc = f"{parent} with another {', '.join(changed)}." if changed else f"{parent} as it is."
    if len(doc) > _WIDTH - 10:
        doc = f"{parent} with {len(changed)} fields changed."
    lines = [f'"""{title}"""', "", imports, "", "", "@recipe", f"class {name}({parent}):",
             f'    """{doc}"""']  # fmt: skip
    return "\n".join([*lines, *(["", *body] if body else [])]) + "\n"


def _imports(imports: Mapping[str, set[str]]) -> Iterator[str]:
    """Import statements in the order that ruff's isort rules want."""
    standard = [module for module in imports if module in ("typing", "enum")]
    for module in [*sorted(standard), *sorted(set(imports) - set(standard))]:
        names = sorted(imports[module], key=lambda n: (not n.isupper(), n))
        line = f"from {module} import {', '.join(names)}"
        if len(line) > _WIDTH:
            line = f"from {module} import (\n" + "".join(f"    {n},\n" for n in names) + ")"
        yield line + ("\n" if module in standard and module == sorted(standard)[-1] else "")
