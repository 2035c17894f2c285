"""The command line: `python -m seethrough.bench step|parts [--size=NAME] [--pairs=N] ...`."""

import argparse
import sys
from pathlib import Path

from seethrough.errors import InputError

MEASUREMENTS = {
    "step": "the engine's training step against a bare loop of the same network and batch",
    "parts": "what a step would pay for work that is done once or not at all, in bare steps",
}

FEWEST = 2
"""Rounds without which there is no spread."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    from seethrough.bench.setting import SIZES

    parser = argparse.ArgumentParser(
        prog="seethrough.bench",
        allow_abbrev=False,
        description="CPU time on one thread of a LayerDiff 3D stage, made on the spot.",
    )
    verbs = parser.add_subparsers(dest="measurement", required=True)
    for name, doc in MEASUREMENTS.items():
        verb = verbs.add_parser(name, help=doc, description=doc, allow_abbrev=False)
        verb.add_argument("--size", choices=SIZES, default="medium", help="default: medium")
        verb.add_argument("--pairs", type=int, default=40, help="rounds; default: 40")
        verb.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    try:
        if options.pairs < FEWEST:
            raise InputError(f"--pairs={options.pairs}: needs at least {FEWEST} rounds")
        _measure(options)
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def _measure(options: argparse.Namespace) -> None:
    from seethrough.bench.parts import measure_parts
    from seethrough.bench.step import measure_step
    from seethrough.bench.timing import write_json

    measure = {"step": measure_step, "parts": measure_parts}[options.measurement]
    figures = measure(options.size, options.pairs)
    print(figures.text())
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    sys.exit(main())
