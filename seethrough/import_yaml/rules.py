"""What keys of a configuration become: values of a recipe, or words on why they don't."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

from seethrough.import_yaml.document import Entry
from seethrough.recipe import Experiment, Hub, Local, Recipe, RecipeError
from seethrough.recipe.base import facts, get, values
from seethrough.recipe.errors import nearest
from seethrough.recipe.kinds import Mismatch
from seethrough.recipe.merge import checked
from seethrough.recipe.paths import flatten
from seethrough.recipe.text import parse, show_value


def same(value: Any) -> Any:
    """The value itself."""
    return value


@attrs.frozen
class To:
    """The value at a path below the stage, after `convert`; null leaves it as the recipe has it
    where the field can't be none."""

    path: str
    convert: Callable[[Any], Any] = same


@attrs.frozen
class Without:
    """No value; why it has no meaning."""

    reason: str


@attrs.frozen
class Beside:
    """Read together with another key, which its rule names."""

    key: str


@attrs.frozen
class By:
    """Anything else, by a function of all values."""

    apply: "Callable[[Import, Any], None]"


Rule: TypeAlias = To | Without | Beside | By


@attrs.frozen
class Layout:
    """The configurations of one published training program."""

    title: str
    experiment: type[Experiment]
    stage: str
    """Name of the experiment's stage that the configuration is of."""
    rules: Mapping[str, Rule]
    defaults: Mapping[str, Any]
    """What the program takes for keys that a configuration leaves out, where results depend on
    it."""

    @property
    def whole(self) -> set[str]:
        """Keys below which nothing is taken apart."""
        starts = {key.rpartition(".")[0] for key in self.rules}
        return {key for key in self.rules if key not in starts}


@attrs.frozen
class Options:
    """What a configuration doesn't tell."""

    processes: int | None = None
    """GPUs; none takes the recipe's."""
    samples: int | None = None
    """Samples of an epoch, repeats counted; none where that isn't known."""


@attrs.define
class Import:
    """An experiment while it is filled from a configuration."""

    layout: Layout
    options: Options
    values: Mapping[str, Any]
    """All values by dotted key, the program's defaults among them."""
    experiment: Experiment
    without: dict[str, str] = attrs.field(factory=dict[str, str])
    """Given keys without meaning, and why."""
    open: dict[str, str] = attrs.field(factory=dict[str, str])
    """Keys whose value the recipe can't be told, and what it has instead."""

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        return self.values.get(key)

    def put(self, path: str, value: Any) -> None:
        """Set a field below the stage; text is read as the field's kind."""
        self.put_whole(f"{self.layout.stage}.{path}", value)

    def put_whole(self, path: str, value: Any) -> None:
        """Set a field of the experiment."""
        changed = _put(self.experiment, path, value, path)
        assert isinstance(changed, Experiment)
        self.experiment = changed

    def now(self, path: str) -> Any:
        """The value of a field below the stage."""
        return flatten(self.experiment)[f"{self.layout.stage}.{path}"]

    def section(self, path: str) -> Recipe:
        """A section below the stage."""
        found: Any = self.experiment
        for name in f"{self.layout.stage}.{path}".split("."):
            found = get(found, name)
        return found

    @property
    def processes(self) -> int:
        """GPUs."""
        return self.options.processes or self.now("hardware.processes")


def fill(layout: Layout, name: str, entries: Mapping[str, Entry], options: Options) -> Import:
    """The experiment that a configuration means.

    Args:
        layout: of which program it is.
        name: what messages call the file.
        entries: what it holds by dotted key.
        options: what it doesn't tell.

    Raises:
        RecipeError: for a key that the program doesn't know, and a value that its field refuses;
            both with their line.
    """
    for key, entry in entries.items():
        if key not in layout.rules:
            raise RecipeError(
                f"{name}:{entry.line}: {key} is no key of {layout.title}; "
                f"{nearest(key, layout.rules)}"
            )
    given = {key: entry.value for key, entry in entries.items()}
    made = Import(layout, options, {**layout.defaults, **given}, layout.experiment())
    for key, rule in layout.rules.items():
        if key not in made.values:
            continue
        try:
            _apply(made, key, rule, made.values[key])
        except RecipeError as problem:
            line = f":{entries[key].line}" if key in entries else ""
            raise RecipeError(f"{name}{line}: {key}: {problem}") from problem
        except (TypeError, ValueError, AttributeError) as problem:
            line = f":{entries[key].line}" if key in entries else ""
            value = made.values[key]
            raise RecipeError(f"{name}{line}: {key}: {value!r} is no value for it") from problem
    return made


def _apply(made: Import, key: str, rule: Rule, value: Any) -> None:
    if isinstance(rule, Without):
        made.without[key] = rule.reason
    elif isinstance(rule, By):
        rule.apply(made, value)
    elif isinstance(rule, To):
        made.put(rule.path, None if value is None else rule.convert(value))


def _put(recipe: Recipe, path: str, value: Any, whole: str) -> Recipe:
    name, _, rest = path.partition(".")
    field = facts(type(recipe)).fields[name]
    old = get(recipe, name)
    if rest:
        new = _put(old, rest, value, whole)
    elif isinstance(value, Recipe | tuple | Hub | Local):
        new = checked(field.kinds, value, whole)
    else:
        try:
            new = checked(field.kinds, parse(field.kind, _text(value)), whole)
        except (Mismatch, RecipeError) as problem:
            if value is None:
                return recipe
            raise RecipeError(
                f"{show_value(value)} doesn't go into {whole} ({problem})"
            ) from problem
    return type(recipe)(**{**values(recipe), name: new})


def _text(value: Any) -> str:
    if isinstance(value, str | bool | int | float) or value is None:
        return show_value(value)
    raise RecipeError(f"expected one value, found {type(value).__name__}")


def source(value: Any) -> Hub | Local:
    """A model or a list: a repository of the hub by its form, else a path."""
    text = str(value)
    owner, slash, name = text.partition("/")
    is_path = not slash or "/" in name or owner in (".", "..", "~", "workspace", "")
    return Local(text) if is_path or "." in owner else Hub(text)


def numbers(value: Any) -> tuple[float, ...]:
    """A list of numbers, some of which YAML takes for text, such as 1e-4."""
    if not isinstance(value, list | tuple):
        raise RecipeError(f"expected a list of numbers, found {value!r}")
    try:
        return tuple(float(one) for one in value)
    except (TypeError, ValueError):
        raise RecipeError(f"expected a list of numbers, found {value!r}") from None


def words(value: Any) -> tuple[str, ...]:
    """A list of names."""
    if not isinstance(value, list | tuple):
        raise RecipeError(f"expected a list of names, found {value!r}")
    return tuple(str(one) for one in value)
