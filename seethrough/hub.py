"""The command line: `python -m seethrough.hub export RUN FOLDER [--flags]`."""

import sys
from pathlib import Path
from typing import Literal

from seethrough.arguments import take_apart
from seethrough.errors import InputError
from seethrough.recipe import RecipeError, Section, recipe
from seethrough.recipe.overrides import override
from seethrough.recipe.report import recipe_help

USAGE = "python -m seethrough.hub export RUN FOLDER [--flags]"


@recipe
class Export(Section):
    """What to export, and how."""

    model: Literal["layers", "depth"] | None = None
    """Which of the run's models; needed where it trained both."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of all weights; the published ones are bf16."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if not given or "--help" in given or "-h" in given:
            print(
                f"{USAGE}\n\nWrites the model that a run trained, and all that it needs, as a"
                " folder in the published\nlayout: for `decompose --layers=file:FOLDER`, for"
                f" diffusers' loaders, for the hub.\n\nflags\n{recipe_help(Export())}"
            )
        else:
            print(_export(given))
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def _export(arguments: list[str]) -> str:
    words, flags = take_apart(arguments, "seethrough.hub")
    if len(words) != 3 or words[0] != "export":
        raise RecipeError(f"given {' '.join(words) or 'nothing'}: write {USAGE}")
    settings, _ = override(Export(), flags.items())
    import torch

    from seethrough.decompose.export import export
    from seethrough.engine.trained import trained_unets

    run, folder = map(Path, words[1:])
    found = {"layers" if one.is_layerdiff else "depth": one for one in trained_unets(run)}
    if settings.model is None and len(found) > 1:
        raise RecipeError(f"{run}: it trained {' and '.join(found)}: choose with --model=")
    name = settings.model or next(iter(found), None)
    if name not in found:
        what = "a 3D UNet" if name is None else f"a model of {name}"
        raise InputError(f"{run}: no finished stage trained {what}: run one first")
    export(found[name], folder, torch.bfloat16 if settings.precision == "bf16" else torch.float32)
    return f"{folder}: {name} of {found[name].where}; --{name}=file:{folder} decomposes with it"


if __name__ == "__main__":
    sys.exit(main())
