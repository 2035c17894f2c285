"""Takes the words of a command line apart: plain words, and flags written `--name=text`."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from seethrough.recipe.base import Recipe, facts, values
from seethrough.recipe.errors import RecipeError, nearest
from seethrough.recipe.kinds import describe
from seethrough.recipe.overrides import override
from seethrough.recipe.text import show_value

SettingsT = TypeVar("SettingsT", bound=Recipe)


def take_apart(
    arguments: list[str], name: str, switches: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Words and flags by name, by python-fire; what fire would let pass in silence is refused.

    A flag is `--name=text` or `--name text`; dashes in its name read as underscores. `switches`
    take no value and read as "true". `name` is the program's.

    Raises RecipeError for what is no flag, a flag given twice, and one without its value.
    """
    import fire
    import fire.decorators

    found: list[tuple[tuple[str, ...], dict[str, str]]] = []

    @fire.decorators.SetParseFn(str)
    def collect(*words: str, **flags: str) -> None:
        found.append((words, flags))

    fire.Fire(collect, command=_normal(arguments, switches), name=name)
    return found[0]


def _normal(arguments: list[str], switches: Collection[str]) -> list[str]:
    """Every flag once, as `--name=text`: fire keeps the last of two and invents missing values."""
    tokens: list[str] = []
    seen: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if not token.startswith("-"):
            tokens.append(token)
            continue
        match = re.fullmatch(r"--([A-Za-z][\w.-]*)(?:=(.*))?", token, re.DOTALL)
        if match is None:
            raise RecipeError(f"{token}: no flag; flags are written --path=value")
        name, text = match[1].replace("-", "_"), match[2]
        if name in switches:
            if text is not None:
                raise RecipeError(f"--{name}: given {text!r}, but it is a switch and takes nothing")
            text = "true"
        elif text is None:
            if not rest or re.match(r"--?[A-Za-z]", rest[0]):
                raise RecipeError(f"--{name}: given no value; write --{name}=value")
            text = rest.pop(0)
        if name in seen:
            raise RecipeError(f"--{name}: given twice, {seen[name]!r} and {text!r}; give it once")
        seen[name] = text
        tokens.append(f"--{name}={text}")
    return tokens


def take_settings(
    arguments: list[str], name: str, default: SettingsT, others: Collection[str] = ()
) -> tuple[tuple[str, ...], SettingsT, dict[str, str]]:
    """Words, the settings that the flags give, and the text of flags that are none of them.

    Args:
        arguments: the command line.
        name: the program's.
        default: the settings without flags; a field that is true or false is a switch.
        others: names of the flags that are no field of the settings.

    Raises:
        RecipeError: as `take_apart`, and for an unknown flag or a value of another kind.
    """
    fields = facts(type(default)).fields
    switches = [field for field, known in fields.items() if known.kind is bool]
    words, flags = take_apart(arguments, name, switches)
    for flag in flags:
        if flag not in fields and flag not in others:
            raise RecipeError(f"--{flag}: no such flag; {nearest(flag, [*fields, *others])}")
    settings, _ = override(default, [(flag, flags[flag]) for flag in flags if flag in fields])
    return words, settings, {flag: flags[flag] for flag in flags if flag in others}


def chosen_run(model: object, folders: Mapping[str, str], choices: str) -> Path | None:
    """The run that `--from` names; None if `--model` gives the model.

    `model` is what `--model` says, None without it; `choices` tell what could be given.

    Raises:
        RecipeError: when both or none are given.
    """
    if model is None and "from" not in folders:
        raise RecipeError(f"no model given; choose one:\n{choices}")
    if model is not None and "from" in folders:
        raise RecipeError(f"--model={model} and --from={folders['from']}: give one")
    return Path(folders["from"]) if "from" in folders else None


def settings_help(default: Recipe, others: Mapping[str, tuple[str, str]]) -> str:
    """Every flag of `take_settings`: what it accepts, its default, and what it means.

    `others` has, by name, what a flag that is no field takes, and what it means.
    """
    lines: list[str] = []
    for name, (kind, doc) in others.items():
        lines += [f"  --{name}={kind}", f"      {doc}"]
    defaults = values(default)
    for name, field in facts(type(default)).fields.items():
        shown = f"={show_value(defaults[name])}  ({describe(field.kind)})"
        lines += [f"  --{name}{'' if field.kind is bool else shown}", f"      {field.doc}"]
    return "\n".join(lines)
