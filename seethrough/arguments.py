"""Takes the words of a command line apart: plain words, and flags written `--name=text`."""

import re
from collections.abc import Collection

from seethrough.recipe.errors import RecipeError


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
