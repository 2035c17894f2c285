"""The command line: `python -m seethrough.checkpoint inspect|convert|ema|compare|verify`."""

import sys
from pathlib import Path

from seethrough.arguments import settings_help, take_settings
from seethrough.checkpoint.settings import Compare, Convert, Inspect, Verify
from seethrough.commands import run_command
from seethrough.recipe import RecipeError, Section
from seethrough.recipe.errors import nearest

PROGRAM = "python -m seethrough.checkpoint"

VERBS: dict[str, tuple[str, Section, str]] = {
    "inspect": ("PATH", Inspect(), "Says what it is: tensors, parameters, types, size, by part."),
    "convert": (
        "PATH TARGET",
        Convert(),
        "Writes weights as a folder in the hub's layout, or as one file that ends in .safetensors.",
    ),
    "ema": (
        "PATH TARGET",
        Convert(),
        "Writes the average of the weights that a training checkpoint keeps; of a stage its newest "
        "one.",
    ),
    "compare": (
        "A B",
        Compare(),
        "Names the tensors that only one has or that differ. Exit code 1 when there are any.",
    ),
    "verify": (
        "PATH...",
        Verify(),
        "Compares with the hashes of records, of manifests and of the hub's cache, and looks for "
        "numbers that aren't finite. Exit code 1 when something is wrong.",
    ),
}
"""What each takes, its settings, and what it does."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 for a difference or harm, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(given or ["--help"], _help, _run)


def _help() -> str:
    verbs = "\n\n".join(
        f"{PROGRAM} {verb} {words} [--flags]\n  {doc}\n{settings_help(settings, {})}".rstrip()
        for verb, (words, settings, doc) in VERBS.items()
    )
    return f"""\
{verbs}

PATH is a run, a stage of it, a training checkpoint, a folder in the hub's layout (whole, or one
model), a checkpoint of DeepSpeed, a .safetensors file, or one of torch.save that holds plain
tensors: others could run code and are refused.

PATH:PART takes a part: a folder of a pipeline, an artifact of a stage, `network` or `average` of a
training checkpoint, or what names begin with, as in file.safetensors:vae or
step-00000100:average.unet."""


def _run(arguments: list[str]) -> list[str]:
    verb, *rest = arguments
    if verb not in VERBS:
        raise RecipeError(f"{verb}: no such command; {nearest(verb, VERBS)}")
    usage, default, _ = VERBS[verb]
    words, settings, _ = take_settings(rest, "seethrough.checkpoint", default)
    expected = len(usage.split())
    if len(words) < expected or (len(words) > expected and not usage.endswith("...")):
        raise RecipeError(f"{verb}: given {' '.join(words) or 'nothing'}: write {verb} {usage}")
    return _done(verb, words, settings)


def _done(verb: str, words: tuple[str, ...], settings: Section) -> list[str]:
    """Run a command; returns what is wrong."""
    if isinstance(settings, Inspect):
        from seethrough.checkpoint.describe import describe

        for line in describe(words[0], settings):
            print(line)
    elif isinstance(settings, Convert):
        from seethrough.checkpoint.convert import convert
        from seethrough.checkpoint.source import average_of

        source = average_of(words[0]) if verb == "ema" else words[0]
        print(convert(source, Path(words[1]), settings))
    elif isinstance(settings, Compare):
        from seethrough.checkpoint.compare import compare

        lines, differ = compare(words[0], words[1], settings)
        print(*lines, sep="\n")
        return [f"{words[0]} and {words[1]} differ"] if differ else []
    else:
        from seethrough.checkpoint.verify import verify

        return [line for word in words for line in verify(Path(word), print)]
    return []


if __name__ == "__main__":
    sys.exit(main())
