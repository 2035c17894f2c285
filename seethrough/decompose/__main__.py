"""The command line: `python -m seethrough.decompose IMAGE... [--flags]`."""

import os
import sys

from seethrough.decompose.settings import help_text, parse
from seethrough.errors import InputError

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when an image failed, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--help" in given or "-h" in given:
        print(help_text())
        return 0
    try:
        failures = _run(given)
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `| head` closed the pipe. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    if failures:
        print(f"failed: {len(failures)}", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    if command.settings.plan:
        from seethrough.decompose.plan import plan_text

        print(plan_text(command))
        return []
    from seethrough.decompose.images import find_images, left_out

    images = find_images(command.images)
    for path in left_out(command.images):
        print(f"left out: {path}: a folder is not searched for its kind; give it by name")
    from seethrough.decompose.folder import Options, decompose_images
    from seethrough.decompose.models import choose

    choice = choose(command)
    for line in choice.account():
        print(line, flush=True)
    settings = command.settings
    options = Options(
        seed=settings.seed, split=settings.split, pngs=settings.pngs, size=settings.size
    )
    return decompose_images(images, choice, options, command.out)


if __name__ == "__main__":
    sys.exit(main())
