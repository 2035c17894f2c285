"""The command line: `python -m seethrough.import_yaml CONFIG.yaml EXPERIMENT.py`."""

import sys
from pathlib import Path
from textwrap import wrap

from seethrough.arguments import settings_help, take_settings
from seethrough.commands import run_command
from seethrough.import_yaml.document import Document, read_documents
from seethrough.import_yaml.layouts import LAYOUTS, program_of
from seethrough.import_yaml.rules import Import, Options, fill
from seethrough.import_yaml.settings import ImportSettings
from seethrough.recipe import RecipeError
from seethrough.recipe.base import facts
from seethrough.recipe.report import differences
from seethrough.recipe.save import save_subclass

USAGE = "python -m seethrough.import_yaml CONFIG.yaml EXPERIMENT.py [--flags]"


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(given or ["--help"], _help, _run)


def _help() -> str:
    return f"""\
{USAGE}

Writes a published training configuration as an experiment: a subclass of a base recipe that changes
what the configuration says otherwise. Values that it leaves out are those of its own program. Names
the keys that have no meaning here, and why; one that its program doesn't know is refused.

{settings_help(ImportSettings(), {})}"""


def _run(arguments: list[str]) -> list[str]:
    words, settings, _ = take_settings(arguments, "seethrough.import_yaml", ImportSettings())
    if len(words) != 2:
        raise RecipeError(f"given {' '.join(words) or 'nothing'}: write {USAGE}")
    config, file = map(Path, words)
    document = _choose(read_documents(config), config, settings.part)
    layout = LAYOUTS[settings.program or program_of(document)]
    options = Options(settings.processes, settings.samples)
    made = fill(layout, str(config), document.flat(layout.whole), options)
    default = facts(layout.experiment).default
    save_subclass(made.experiment, file, _title(config, made))
    changed = len(differences(default, made.experiment))
    print(f"{file}: {layout.experiment.__name__}, changed where {config} differs: {changed} values")
    print(*_notes(made), sep="\n")
    return []


def _choose(documents: list[Document], config: Path, part: int | None) -> Document:
    """The configuration of a file; one of several has to be named."""
    if part is None and len(documents) == 1:
        return documents[0]
    first = [f"{number} (from line {d.entries[0][2]})" for number, d in enumerate(documents, 1)]
    if part is None or part > len(documents):
        raise RecipeError(
            f"{config}: keys begin again, so it holds {len(documents)} configurations: choose with "
            f"--part={' or '.join(first)}"
        )
    return documents[part - 1]


def _title(config: Path, made: Import) -> str:
    """The docstring of the file; names in it are those of known keys."""
    name = config.name.replace("\\", "/").replace('"', "'")
    title = f"{made.layout.title} as {name} says it."
    return "\n".join([title[0].upper() + title[1:], "", *_notes(made), ""])


def _notes(made: Import) -> list[str]:
    """What wasn't taken over, and why: lines that a docstring has room for."""
    lines: list[str] = []
    for title, found in (("To decide:", made.open), ("Without meaning here:", made.without)):
        if found:
            lines.append(title)
        for key, reason in found.items():
            lines += wrap(f"- {key}: {reason}", 98, subsequent_indent="  ")
    return lines or ["Every key has a meaning here."]


if __name__ == "__main__":
    sys.exit(main())
