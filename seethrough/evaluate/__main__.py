"""The command line: `python -m seethrough.evaluate TRANS10K [--flags]`."""

import sys

from seethrough.commands import run_command
from seethrough.evaluate.settings import help_text, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when a photo failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    from seethrough.data.trans10k import find_pairs
    from seethrough.engine.ranks import everywhere
    from seethrough.evaluate.evaluation import evaluate
    from seethrough.segment.models import choose
    from seethrough.segment.photos import join

    settings = command.settings
    device = join(settings.device)
    difficulty = None if settings.difficulty == "mix" else settings.difficulty
    pairs, choice = everywhere(
        lambda: (
            find_pairs(command.root, settings.split, difficulty),
            choose(settings, command.run, device),
        )
    )
    return evaluate(command.root, pairs, choice, settings, device, command.out)


if __name__ == "__main__":
    sys.exit(main())
