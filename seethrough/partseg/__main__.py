"""The command line: `python -m seethrough.partseg IMAGE... [--flags]`."""

import sys

from seethrough.commands import run_command
from seethrough.partseg.settings import help_text, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code: 1 when a page failed, 2 for bad input."""
    return run_command(arguments, help_text, _run)


def _run(arguments: list[str]) -> list[str]:
    command = parse(arguments)
    from seethrough.decompose.images import find_images, left_out
    from seethrough.engine.ranks import everywhere
    from seethrough.partseg.models import choose
    from seethrough.partseg.pages import find_parts
    from seethrough.segment.photos import join

    device = join(command.settings.device)
    images, choice = everywhere(
        lambda: (find_images(command.images), choose(command.settings, command.run, device))
    )
    for path in left_out(command.images):
        print(f"left out: {path}: a folder is not searched for its kind; give it by name")
    return find_parts(images, choice, device, command.out)


if __name__ == "__main__":
    sys.exit(main())
