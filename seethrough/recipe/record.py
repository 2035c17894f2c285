"""A recipe as a JSON record with a schema version, from which an equal one can be made."""

import enum
import importlib
from collections.abc import Mapping
from typing import Any, cast, get_args, get_origin

import attrs

from seethrough.recipe.base import Recipe, facts, is_required, values
from seethrough.recipe.errors import RecipeError, nearest
from seethrough.recipe.kinds import Mismatch, is_class, members, split
from seethrough.recipe.text import parse
from seethrough.recipe.values import SOURCE_FORMS, Hub, Local, Output

SCHEMA = 1
"""Version of the record's form; a reader refuses any other."""


def to_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON data, from which `from_record` makes an equal one."""
    return {"schema": SCHEMA, "recipe": _encode(recipe, "")}


def _encode(value: Any, path: str) -> Any:
    if isinstance(value, Recipe):
        fields = {k: _encode(v, f"{path}.{k}".lstrip(".")) for k, v in values(value).items()}
        cls = type(value)
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}
    if isinstance(value, tuple):
        return [_encode(v, f"{path}.{i}") for i, v in enumerate(cast(tuple[Any, ...], value))]
    if isinstance(value, Hub | Local | Output):
        return {"source": type(value).__name__, **attrs.asdict(value)}
    if isinstance(value, enum.Enum):
        return {"enum": value.name}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if is_required(value):
        raise RecipeError(f"{path}: REQUIRED has no value yet, so there is nothing to record")
    raise RecipeError(f"{path}: cannot record {value!r} ({type(value).__name__})")


def from_record(record: Any) -> Recipe:
    """The recipe of a record; raises `RecipeError` when it is none that this version reads."""
    match record:
        case {"schema": schema, "recipe": dict()}:
            tree = cast(dict[str, Any], record["recipe"])
        case {"recipe": _}:
            raise RecipeError("record: no schema version in it; it is no record of a recipe")
        case _:
            raise RecipeError('record: expected {"schema": ..., "recipe": ...}')
    if schema != SCHEMA:
        raise RecipeError(f"record: has schema {schema!r}, this version reads {SCHEMA}")
    return _decode_recipe(tree, "recipe")


def _decode_recipe(tree: Mapping[str, Any], path: str) -> Recipe:
    name, fields = tree.get("class"), tree.get("fields")
    if not isinstance(name, str) or not isinstance(fields, dict):
        raise RecipeError(f"record: {path}: expected a class and its fields")
    cls = _find_class(name, path)
    given, known = cast(dict[str, Any], fields), facts(cls).fields
    for key in given:
        if key not in known:
            raise RecipeError(
                f"record: {path}.{key}: {name} has no such field; {nearest(key, known)}"
            )
    for key in known:
        if key not in given:
            raise RecipeError(f"record: {path}.{key}: {name} has this field, the record has not")
    return cls(**{k: _decode(known[k].kind, v, f"{path}.{k}") for k, v in given.items()})


def _find_class(name: str, path: str) -> type[Recipe]:
    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        raise RecipeError(
            f"record: {path}: class {name} cannot be found; run where it can be imported"
        ) from None
    if not is_class(found, Recipe):
        raise RecipeError(f"record: {path}: {name} is no recipe class")
    return found


def _decode(kind: Any, data: Any, path: str) -> Any:
    parts = [split(member)[0] for member in members(split(kind)[0])]
    match data:
        case {"class": _}:
            return _decode_recipe(cast(dict[str, Any], data), path)
        case {"source": str(name), **rest}:
            return _source([part for part in parts if part in SOURCE_FORMS], name, rest, path)
        case {"enum": str(text)}:
            return _read([part for part in parts if is_class(part, enum.Enum)], text, path)
        case list():
            elements = cast(list[Any], data)
            return tuple(
                _decode(_element(parts, i, path), v, f"{path}.{i}") for i, v in enumerate(elements)
            )
        case _:
            return data


def _element(parts: list[Any], index: int, path: str) -> Any:
    for part in parts:
        arguments = get_args(part)
        if get_origin(part) is tuple:
            variadic = len(arguments) == 2 and arguments[1] is ...
            if variadic or index < len(arguments):
                return arguments[0] if variadic else arguments[index]
    raise RecipeError(f"record: {path}: has an element {index} that its field does not accept")


def _source(kinds: list[Any], name: str, parts: Mapping[str, Any], path: str) -> Any:
    cls = next((kind for kind in kinds if kind.__name__ == name), None)
    if cls is None or set(parts) != {part.name for part in attrs.fields(cls)}:
        raise RecipeError(f"record: {path}: its field does not accept {name} of {sorted(parts)}")
    return cls(**parts)


def _read(kinds: list[Any], text: str, path: str) -> Any:
    for kind in kinds:
        try:
            return parse(kind, text)
        except Mismatch:
            continue
    raise RecipeError(f"record: {path}: its field does not accept {text!r}")
