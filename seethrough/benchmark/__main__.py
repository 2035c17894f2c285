"""The command line: `python -m seethrough.benchmark layers|depth|partseg SAMPLES PREDICTIONS`."""

import sys

from seethrough.benchmark.settings import help_text, parse
from seethrough.commands import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when a sample failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    from seethrough.benchmark.run import run

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
