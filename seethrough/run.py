"""The command line: `python -m seethrough.run EXPERIMENT.py [VERB] [--path=value ...]`.

Imports neither torch nor anything that does, until a stage runs.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from seethrough.arguments import take_apart
from seethrough.engine.ranks import rank, world
from seethrough.errors import InputError
from seethrough.recipe import (
    Draft,
    RecipeError,
    as_code,
    base_draft,
    diff,
    field_help,
    load,
    save_as,
    show,
)
from seethrough.recipe.errors import nearest

VERBS: dict[str, str] = {
    "run": "run the stages that are not done (the default)",
    "plan": "say what would run, on what, and what is done already",
    "show": "print every value and who set it",
    "diff": "diff [OTHER.py]: print what differs from another experiment, or from the base",
    "rehearse": "run the CPU-sized twin, in minutes",
    "adopt": "adopt STAGE PATH: let an outside file or folder stand in for a stage",
}


@attrs.frozen
class Option:
    """A flag that is no field's path."""

    verbs: tuple[str, ...]
    value: str | None
    """What it takes, None for a switch."""
    doc: str


_RUNS = ("run", "rehearse")
OPTIONS: dict[str, Option] = {
    "only": Option(_RUNS, "STAGE", "run this stage alone"),
    "from_stage": Option(_RUNS, "STAGE", "run this stage and all after it"),
    "redo": Option(_RUNS, "STAGE", "delete this stage (or `all`) and make it again"),
    "accept": Option(_RUNS, "STAGE", "keep this stage although its values drifted"),
    "runs": Option((*_RUNS, "plan", "adopt"), "FOLDER", "where runs are kept; default: runs"),
    "save_as": Option(
        ("run", "plan", "show"), "FILE", "write the overrides as a subclass, and go on with it"
    ),
    "memory": Option(("plan",), None, "count the bytes of each training stage"),
    "rehearse": Option(("plan", "show"), None, "speak of the CPU-sized twin"),
    "as_code": Option(("diff",), None, "print the difference as Python"),
}


@attrs.frozen
class Command:
    """A command line taken apart."""

    file: str
    verb: str
    words: tuple[str, ...]
    options: dict[str, str]
    flags: tuple[tuple[str, str], ...]


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if not given or "--help" in given or "-h" in given:
            print(_help([word for word in given if word not in ("--help", "-h")]))
        else:
            _run(parse(given))
        sys.stdout.flush()
    except InputError as problem:
        # Under torchrun every process finds the same problem.
        if rank() == 0:
            print(problem, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `| head` closed the pipe. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def parse(arguments: list[str]) -> Command:
    """Take a command line apart; raises `RecipeError` when it is none."""
    switches = [name for name, option in OPTIONS.items() if option.value is None]
    words, named = take_apart(arguments, "seethrough.run", switches)
    if not words:
        raise RecipeError("no experiment given: python -m seethrough.run EXPERIMENT.py [VERB]")
    file, verb, *rest = (*words, "run") if len(words) == 1 else words
    if verb not in VERBS:
        raise RecipeError(f"{verb}: no such verb; {nearest(verb, VERBS)}")
    options = {name: text for name, text in named.items() if name in OPTIONS}
    for name in options:
        if verb not in OPTIONS[name].verbs:
            raise RecipeError(
                f"--{name}: not an option of {verb}; it goes with {', '.join(OPTIONS[name].verbs)}"
            )
    expected = {"diff": (0, 1), "adopt": (2,)}.get(verb, (0,))
    if len(rest) not in expected:
        usage = VERBS[verb] if max(expected) else "it takes no further word"
        raise RecipeError(f"{verb}: given {' '.join(rest) or 'nothing more'}; {usage}")
    flags = tuple((name, text) for name, text in named.items() if name not in OPTIONS)
    return Command(file, verb, tuple(rest), options, flags)


def _run(command: Command) -> None:
    draft = load(command.file)
    if command.verb == "rehearse" or "rehearse" in command.options:
        # The rule sets many values: flags come after it, or it would undo them in silence.
        draft = draft.rehearsal()
    draft = draft.override(command.flags)
    if "save_as" in command.options:
        if world() > 1:
            raise RecipeError("--save_as: not under torchrun or accelerate launch; save it first")
        draft = save_as(draft, command.options["save_as"])
        print(f"saved {command.options['save_as']}")
    actions: dict[str, Callable[[Draft, Command], None]] = {
        "run": _stages, "rehearse": _stages, "plan": _plan, "show": _show, "diff": _diff,
        "adopt": _adopt,
    }  # fmt: skip
    actions[command.verb](draft, command)


def _folder(command: Command) -> Path:
    return Path(command.options.get("runs", "runs"))


def _stages(draft: Draft, command: Command) -> None:
    resolved = draft.resolve()
    from seethrough.engine.runner import run

    names = ("only", "from_stage", "redo", "accept")
    choice: dict[str, Any] = {name: command.options.get(name) for name in names}
    run(resolved, _folder(command), **choice)


def _plan(draft: Draft, command: Command) -> None:
    resolved = draft.resolve()
    from seethrough.engine.plan import make_plan

    print(make_plan(resolved, _folder(command)).text(memory="memory" in command.options))


def _show(draft: Draft, command: Command) -> None:
    print(show(draft), flush=True)
    draft.resolve()  # the table stands above; what is wrong with it goes below


def _diff(draft: Draft, command: Command) -> None:
    other = load(command.words[0]) if command.words else base_draft(draft)
    print(as_code(draft, other) if "as_code" in command.options else diff(draft, other))


def _adopt(draft: Draft, command: Command) -> None:
    resolved = draft.resolve()
    from seethrough.engine.runner import adopt

    stage, path = command.words
    adopt(resolved, _folder(command), stage, Path(path))


def _help(words: list[str]) -> str:
    verbs = "".join(f"  {name:<9} {doc}\n" for name, doc in VERBS.items())
    options = "".join(
        f"  --{name}{f'={option.value}' if option.value else ''}\n"
        f"      {option.doc} ({', '.join(option.verbs)})\n"
        for name, option in OPTIONS.items()
    )
    text = (
        "python -m seethrough.run EXPERIMENT.py [VERB] [--path=value ...] [options]\n\n"
        f"verbs\n{verbs}\noptions\n{options}\nfields\n"
    )
    files = [word for word in words if word.endswith(".py")]
    if not files:
        return text + "  give an experiment's file to see its fields"
    return text + field_help(load(files[0]))


if __name__ == "__main__":
    sys.exit(main())
