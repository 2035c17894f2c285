"""The page of the worst cases: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import attrs
from jinja2 import Environment, StrictUndefined

from seethrough.benchmark.results import Result, format_cell
from seethrough.engine.files import write_text
from seethrough.inference.composite import Image8
from seethrough.inference.report import data_uri

_TEMPLATE = "worst.html.j2"
_SIDE = 320
"""Longer side of a picture on the page, in pixels."""


@attrs.frozen(eq=False)
class Case:
    """One of the worst cases."""

    title: str
    numbers: Mapping[str, str]
    """Its measures as text, by name for people."""
    pictures: Mapping[str, Image8]
    """By caption; (H, W, 4) straight RGBA or (H, W, 3) RGB."""


def write_page(path: Path, result: Result, cases: Sequence[Case]) -> None:
    """Write the table and the cases, worst first. The same arguments give the same bytes."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("seethrough.benchmark").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    html = environment.from_string(source).render(
        result=result,
        cells=[[format_cell(result, row, name) for name in result.measures] for row in result.rows],
        cases=[
            {
                "title": case.title,
                "numbers": case.numbers,
                "pictures": {
                    caption: data_uri(picture, _SIDE) for caption, picture in case.pictures.items()
                },
            }
            for case in cases
        ],
    )
    write_text(path, html)
