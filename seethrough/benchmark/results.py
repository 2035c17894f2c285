"""What a benchmark finds, and the files that tell it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from seethrough.engine.files import write_csv, write_json, write_text


@attrs.frozen
class Measure:
    """A column."""

    title: str
    """For people."""
    better: str
    """`higher` or `lower`."""
    decimals: int = 3


@attrs.frozen
class Row:
    """A row: all samples together, or what of them belongs to one tag."""

    name: str
    count: int
    """Of how many its means are."""
    values: Mapping[str, float | None]
    """By measure; None, or no entry, where there is nothing to measure."""


@attrs.frozen(kw_only=True)
class Result:
    """All that a benchmark finds."""

    what: str
    """What was measured, for people."""
    counted: str
    """What a row counts."""
    measures: Mapping[str, Measure]
    rows: Sequence[Row]
    """The first is over all."""
    samples: Sequence[Mapping[str, Any]]
    """A line for each sample or each tag of it: plain values by name, the same names in all."""
    notes: str
    """How to read the numbers."""
    missing: Sequence[str] = ()
    """What could not be measured, and what it would need."""
    made: Mapping[str, Any] = attrs.field(factory=dict)
    """What the results were made from."""
    failed: Sequence[str] = ()
    """Samples that are in no mean, and why."""


def write_tables(out: Path, result: Result) -> str:
    """Write all but the page of the worst cases; returns the table in Markdown."""
    table = markdown(result)
    missing = "".join(f"- not measured: {line}\n" for line in result.missing)
    write_text(out / "table.md", f"{table}\n{missing}\n{result.notes}\n")
    names = list(result.measures)
    rows = [[row.name, row.count, *(_number(row, name) for name in names)] for row in result.rows]
    write_csv(out / "table.csv", ["", result.counted, *names], rows)
    columns = list(result.samples[0]) if result.samples else []
    lines = [[line[column] for column in columns] for line in result.samples]
    write_csv(out / "samples.csv", columns, lines)
    write_json(
        out / "results.json",
        {
            "made": result.made,
            "failed": result.failed,
            "missing": result.missing,
            "measures": {name: attrs.asdict(one) for name, one in result.measures.items()},
            "rows": {
                row.name: {"count": row.count, **{name: _number(row, name) for name in names}}
                for row in result.rows
            },
            "notes": result.notes,
        },
    )
    return table


def markdown(result: Result) -> str:
    """The table: a dash where there is nothing to measure, an arrow to what is better."""
    arrows = {"higher": "↑", "lower": "↓"}
    titles = [f"{one.title} {arrows[one.better]}" for one in result.measures.values()]
    lines = [
        f"| | {result.counted} | {' | '.join(titles)} |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for row in result.rows:
        cells = [format_cell(result, row, name) for name in result.measures]
        lines.append(f"| {row.name} | {row.count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def format_cell(result: Result, row: Row, name: str) -> str:
    """A cell as text."""
    value = _number(row, name)
    return "-" if value is None else f"{value:.{result.measures[name].decimals}f}"


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _number(row: Row, name: str) -> float | None:
    value = row.values.get(name)
    return None if value is None or math.isnan(value) else value
