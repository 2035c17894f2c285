"""`change` and `evolve`: new values of nested fields that keep their siblings."""

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

import attrs

from seethrough.recipe.base import Origin, Recipe, facts, get, values
from seethrough.recipe.errors import RecipeError, nearest
from seethrough.recipe.kinds import Mismatch, accept
from seethrough.recipe.source import caller

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Recipe)


@attrs.frozen(eq=False)
class Change:
    """What `change` returns at run time, until a recipe resolves it against a value."""

    cls: type[Recipe]
    fields: Mapping[str, Any]


def change(cls: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Change some fields of an inherited section or stage and keep all others.

    `train: Train = change(Train, optim=change(AdamW, lr=2e-5))`. When the inherited value is of
    another class than `cls` (a union's other member, or a base class), the new value starts from
    `cls()`, and fields of the same name that the inherited value had changed are carried over.
    """
    if not (isinstance(cls, type) and issubclass(cls, Recipe)) or args:
        raise RecipeError(f"change({cls!r}, ...): expected a recipe class and keyword arguments")
    # The class body that this stands in is resolved by @recipe, which puts a true T here.
    return cast(T, Change(cls, kwargs))


def evolve(instance: R, **changes: Any) -> R:
    """A copy of `instance` with some fields replaced; `change(...)` reaches nested fields."""
    frame = caller(1)
    code = frame.f_code
    origin = Origin(code.co_qualname, code.co_filename, frame.f_lineno)
    known = facts(type(instance)).fields
    new = values(instance)
    for name, value in changes.items():
        where = f"{type(instance).__name__}.{name}"
        if name not in known:
            raise RecipeError(f"{where}: no such field; {nearest(name, known)}")
        new[name] = merge(new[name], value, where) if isinstance(value, Change) else value
    result = type(instance)(**new)
    EVOLVED.note(instance, result, dict.fromkeys(changes, origin))
    return result


class _Evolved:
    """Remembers, while the rehearsal rule runs, which line set which field of which instance."""

    def __init__(self) -> None:
        self.active = False
        self._kept: list[Recipe] = []  # an id stays true only while its object lives
        self._origins: dict[int, dict[str, Origin]] = {}

    def start(self) -> None:
        self.active, self._kept, self._origins = True, [], {}

    def stop(self) -> None:
        self.active, self._kept, self._origins = False, [], {}

    def note(self, old: Recipe, new: Recipe, origins: dict[str, Origin]) -> None:
        if self.active:
            self._kept += [old, new]
            self._origins[id(new)] = {**self._origins.get(id(old), {}), **origins}

    def of(self, instance: Recipe) -> dict[str, Origin]:
        return self._origins.get(id(instance), {})


EVOLVED = _Evolved()


def merge(old: Any, new: Change, where: str) -> Recipe:
    """Apply a change to the value that it inherits; `where` names the field in messages."""
    if isinstance(old, new.cls):
        start, asked = old, {}
    elif isinstance(old, Recipe):
        start, asked = carry(old, new.cls)
    else:
        start, asked = facts(new.cls).default, {}
    known = facts(type(start)).fields
    result = values(start)
    for name, value in new.fields.items():
        path = f"{where}.{name}"
        if name not in known:
            raise RecipeError(
                f"{path}: {type(start).__name__} has no field {name}; {nearest(name, known)}"
            )
        if isinstance(value, Change):
            result[name] = merge(result[name], value, path)
            asked = {p: v for p, v in asked.items() if not _names(new.fields, p.split("."))}
        elif isinstance(value, Recipe) and isinstance(result[name], Recipe):
            raise RecipeError(f"{path}: {replaced_whole(name, result[name], value)}")
        else:
            result[name] = checked(facts(type(start)).fields[name].kinds, value, path)
        asked.pop(name, None)
    for path, (was, default) in asked.items():
        raise RecipeError(
            f"{where}.{path}: {show(was)} was set for {type(old).__name__}, but "
            f"{new.cls.__name__} has its own default {show(default)}; "
            f"say which: change({new.cls.__name__}, {path}=...)"
        )
    return type(start)(**result)


def _names(fields: Mapping[str, Any], path: list[str]) -> bool:
    """Whether the nested changes name the field at `path`."""
    value = fields.get(path[0])
    if path[0] not in fields:
        return False
    return len(path) == 1 or not isinstance(value, Change) or _names(value.fields, path[1:])


def carry(old: Recipe, cls: type[Recipe]) -> tuple[Recipe, dict[str, tuple[Any, Any]]]:
    """`cls()` with the fields that `old` had changed from its class's defaults.

    Also returns the paths of fields where `cls` has another default than the class of `old`,
    each with both candidates; there `cls` keeps its own.
    """
    return _carry(old, facts(type(old)).default, facts(cls).default)


def _carry(old: Recipe, old_default: Recipe, new: Recipe) -> tuple[Recipe, dict[str, Any]]:
    result = values(new)
    asked: dict[str, tuple[Any, Any]] = {}
    was, default = values(old), values(old_default)
    for name, own in values(new).items():
        if name not in was or same(was[name], default[name]) or same(was[name], own):
            continue
        kept, base = was[name], default[name]
        if (
            isinstance(kept, Recipe)
            and isinstance(own, Recipe)
            and type(kept) is type(own) is type(base)
        ):
            result[name], deeper = _carry(kept, base, own)
            asked |= {f"{name}.{path}": pair for path, pair in deeper.items()}
        elif same(base, own):
            result[name] = kept
        else:
            asked[name] = (kept, own)
    return type(new)(**result), asked


def same(a: Any, b: Any) -> bool:
    """Equality that tells 1 from True and from 1.0, at any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Recipe):
        return all(map(same, values(a).values(), values(b).values()))
    if isinstance(a, tuple):
        left, right = cast(tuple[Any, ...], a), cast(tuple[Any, ...], b)
        return len(left) == len(right) and all(map(same, left, right))
    return a == b


def checked(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value as its field holds it; raises `RecipeError` naming `where`, value and rule."""
    try:
        for kind in kinds:
            value = accept(kind, value)
    except Mismatch as problem:
        given = type(value).__name__
        hint = ""
        if isinstance(value, list | set | dict):
            hint = "; a mutable value would be shared by all instances, use a tuple"
        raise RecipeError(f"{where} = {show(value)} ({given}): {problem}{hint}") from None
    return value


def show(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, Recipe):
        return type(value).__name__
    return value.__name__ if isinstance(value, type) else repr(value)


def replaced_whole(name: str, old: Recipe, new: Recipe) -> str:
    """Why an inherited section may not be replaced by an instance, and the idiom to write."""
    cls = type(new)
    given = {
        key: value
        for key, value in values(new).items()
        if not same(value, get(facts(cls).default, key))
    }
    siblings = [key for key in values(old) if key not in given]
    arguments = "".join(f", {key}={show(value)}" for key, value in given.items())
    return (
        f"replacing the whole section would reset {', '.join(siblings) or 'its class'}; "
        f"write change({cls.__name__}{arguments})"
    )
