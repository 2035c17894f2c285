"""The command line: `python -m seethrough.ingest SOURCE... [--flags]`."""

import sys

from seethrough.commands import run_command
from seethrough.ingest.settings import help_text, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when a source failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    from seethrough.ingest.run import ingest, plan

    if command.settings.plan:
        return plan(command.sources)
    return ingest(command.sources, command.settings, command.out)


if __name__ == "__main__":
    sys.exit(main())
