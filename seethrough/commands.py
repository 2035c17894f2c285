"""What command lines share: help, errors, exit codes. Imports no torch."""

import os
import sys
from collections.abc import Callable

from seethrough.engine.ranks import part, rank
from seethrough.errors import InputError
from seethrough.recipe import RecipeError

INTERRUPTED = 130


def run_command(
    arguments: list[str] | None,
    help_text: Callable[[], str],
    run: Callable[[list[str]], list[str]],
) -> int:
    """Run a command line on this process; the main one alone says what all of them know.

    Args:
        arguments: the words after the program's name; None takes this process's.
        help_text: what `--help` prints.
        run: does the work; returns lines that say what failed, the same on all processes.

    Returns:
        The exit code: 0, 1 when something failed, 2 for bad input, 130 for an interruption.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if "--help" in given or "-h" in given:
            print(help_text(), flush=True)
            return 0
        failures = run(given)
    except RecipeError as problem:
        if rank() == 0:
            print(problem, file=sys.stderr)
        return 2
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
    finally:
        part()
    if failures and rank() == 0:
        print(f"failed: {len(failures)}", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0
