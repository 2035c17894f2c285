"""The command line: `python -m seethrough.label [edit] FOLDER [--flags]`."""

import sys

from seethrough.commands import run_command
from seethrough.label.settings import EditSettings, help_text, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when a character failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    settings = command.settings
    if isinstance(settings, EditSettings):
        from seethrough.label.server import serve

        serve(command.root, settings)
        return []
    from seethrough.engine.ranks import rank
    from seethrough.label.characters import label_characters

    if settings.sam is None:
        if rank() > 0:
            return []  # Names are read in no time; the first process does it.
        print("labelling by names alone; --sam=MODEL looks at the pictures too", flush=True)
        return label_characters(command.root, settings.tag_set, None)
    from seethrough.label.masks import PartFinder

    return label_characters(command.root, settings.tag_set, PartFinder(settings))


if __name__ == "__main__":
    sys.exit(main())
