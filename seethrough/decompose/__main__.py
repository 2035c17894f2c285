"""The command line: `python -m seethrough.decompose IMAGE... [--flags]`."""

import sys

from seethrough.commands import run_command
from seethrough.decompose.settings import help_text, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when an image failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


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
