"""The fingerprint of what a recipe computes, over a strict canonical encoding."""

import enum
import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from seethrough.recipe.base import Recipe, facts, values
from seethrough.recipe.errors import RecipeError
from seethrough.recipe.values import Hub, Local, Output

VERSION = 1
"""Version of the encoding; another one makes other fingerprints of the same values."""


def fingerprint(recipe: Recipe, extra: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over what the result depends on, as 64 hexadecimal digits.

    Class names and values of all fields that are not `Execution`. Of a local source only its
    being local enters: a path is no identity, so its content belongs in `extra`, plain data
    (None, bool, int, float, str, and lists, tuples and dicts of them) of the caller. Raises
    `RecipeError` on anything that has no one canonical form.
    """
    whole = [VERSION, _canonical(recipe, ""), _canonical_data(extra or {}, "extra")]
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any, path: str) -> Any:
    if isinstance(value, Recipe):
        known = facts(type(value)).fields
        fields = {
            name: _canonical(child, f"{path}.{name}".lstrip("."))
            for name, child in values(value).items()
            if not known[name].execution
        }
        return ["recipe", type(value).__name__, fields]
    if isinstance(value, tuple):
        parts = cast(tuple[Any, ...], value)
        return ["tuple", *(_canonical(v, f"{path}.{i}") for i, v in enumerate(parts))]
    if isinstance(value, Local):
        return ["local"]
    if isinstance(value, Hub):
        return ["hub", value.repo, value.revision]
    if isinstance(value, Output):
        return ["output", value.stage, value.artifact]
    if isinstance(value, enum.Enum):
        return ["enum", type(value).__name__, value.name]
    return _canonical_data(value, path)


def _canonical_data(value: Any, path: str) -> Any:
    if value is None:
        return ["none"]
    if type(value) is float:
        return ["float", value.hex()]
    if type(value) in (bool, int, str):
        return [type(value).__name__, value]
    if type(value) in (list, tuple):
        parts = cast(list[Any], value)
        return ["list", *(_canonical_data(v, f"{path}.{i}") for i, v in enumerate(parts))]
    if isinstance(value, Mapping):
        pairs = cast(Mapping[Any, Any], value)
        if all(type(key) is str for key in pairs):
            return ["dict", {k: _canonical_data(v, f"{path}.{k}") for k, v in pairs.items()}]
    what = type(cast(object, value)).__name__
    raise RecipeError(f"{path}: {value!r} ({what}) has no fingerprint")
