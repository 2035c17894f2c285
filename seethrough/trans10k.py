"""The command line: `python -m seethrough.trans10k check FOLDER [--write=OTHER]`."""

import sys

from seethrough.arguments import take_apart
from seethrough.errors import InputError
from seethrough.recipe import RecipeError

USAGE = "python -m seethrough.trans10k check FOLDER [--write=OTHER]"

HELP = f"""{USAGE}

Opens every photo and mask of a copy of Trans10K and lists pairs that are missing, broken, of
unequal sizes or turned, and masks of unknown colours. --write=OTHER writes a copy with turned
masks put right and without what is broken. Ends with 1 if anything was found.

"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 1 if anything was found, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if not given or "--help" in given or "-h" in given:
            from seethrough.data import trans10k

            print(HELP + (trans10k.__doc__ or "").replace("`HOME_PAGE`", trans10k.HOME_PAGE))
            return 0
        return _check(given)
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2


def _check(arguments: list[str]) -> int:
    words, flags = take_apart(arguments, "seethrough.trans10k")
    if len(words) != 2 or words[0] != "check" or set(flags) - {"write"}:
        raise RecipeError(f"given {' '.join(arguments)}: write {USAGE}")
    from seethrough.data.trans10k_check import check, report, write_corrected

    root, other = words[1], flags.get("write")
    pairs, findings, lonely = check(root)
    for line in report(root, pairs, findings, lonely):
        print(line)
    if other is not None:
        count = write_corrected(root, pairs, findings, other)
        print(f"{other}: {count} pairs written")
    return 1 if findings or lonely else 0


if __name__ == "__main__":
    sys.exit(main())
