"""One self-contained HTML file that shows decompositions and their numbers.

It loads nothing from anywhere: pictures are embedded, style is inline and there is no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
from jinja2 import Environment, StrictUndefined
from PIL import Image

from seethrough.inference.composite import Image8
from seethrough.metrics.layers import MEASURES, CharacterScores, LayerScores, Truth
from seethrough.metrics.table import LOWER_IS_BETTER, OVERALL, format_value

_TEMPLATE = "report.html.j2"
_SHARES = ("iou", "big_iou", "hidden_recall", "false_layers")
"""Measures from 0 to 1, drawn as bars too."""
_SHOWN_AREA = 0.001
"""A predicted layer without a true one is shown if alpha is above 0.5 on this much of the page."""


@attrs.frozen(kw_only=True)
class Tile:
    """One layer of a character. Pictures are data URIs."""

    tag: str
    note: str
    false: bool
    """Whether the layer was predicted although the character has none."""
    predicted: str
    true: str | None


@attrs.frozen(kw_only=True)
class ReportedCharacter:
    """One character's part of the report: thumbnails and text, a few hundred kB."""

    name: str
    page: str
    """What was decomposed, as a data URI; its colour is shown with the background."""
    recomposition: str
    """The predicted layers over each other, as a data URI."""
    tiles: tuple[Tile, ...]
    """The layers that were predicted or are there."""
    absent: tuple[str, ...]
    """The tags that neither are."""
    numbers: tuple[tuple[str, str], ...]
    """Measures and their values as text."""
    known: bool
    """Whether the truth is known."""
    note: str | None
    """What a reader should know."""
    psd: str | None
    """Link to the layered file, relative to the report."""


def report_character(
    *,
    name: str,
    page: Image8,
    layers: Mapping[str, Image8],
    recomposition: Image8,
    truth: Truth | None = None,
    scores: CharacterScores | None = None,
    note: str | None = None,
    psd: str | None = None,
    picture_side: int = 256,
) -> ReportedCharacter:
    """Keep of one character what the report shows; the pictures themselves can be let go.

    `page`, `layers` (in the order they are shown) and `recomposition` are (R, R, 4) straight
    RGBA; larger ones than `picture_side` are kept smaller. `truth` and `scores` belong together.
    """
    true_layers = truth.layers if truth is not None else {}
    tiles = tuple(
        Tile(
            tag=tag,
            note=_iou(scores, tag),
            false=truth is not None and tag not in true_layers,
            predicted=data_uri(layer, picture_side),
            true=data_uri(true_layers[tag], picture_side) if tag in true_layers else None,
        )
        for tag, layer in layers.items()
        if tag in true_layers or (layer[..., 3] > 127).mean() > _SHOWN_AREA
    )
    shown = {tile.tag for tile in tiles}
    return ReportedCharacter(
        name=name,
        page=data_uri(page[..., :3], picture_side),
        recomposition=data_uri(recomposition, picture_side),
        tiles=tiles,
        absent=tuple(tag for tag in layers if tag not in shown),
        numbers=_numbers(scores),
        known=truth is not None,
        note=note,
        psd=psd,
    )


def write_report(
    path: Path,
    *,
    title: str,
    introduction: str,
    characters: Sequence[ReportedCharacter],
    facts: Mapping[str, str] | None = None,
    systems: Mapping[str, LayerScores] | None = None,
    open_characters: int = 3,
) -> None:
    """Write the report.

    `introduction` is plain text, `facts` short pairs such as ("steps", "10"). `systems` are
    compared in a table, the one in question first. The first `open_characters` show their layers
    at once, the others on a click. The same arguments give the same bytes.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("seethrough.inference").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    systems = systems or {}
    html = environment.from_string(source).render(
        title=title,
        introduction=introduction,
        facts=facts or {},
        system_names=list(systems),
        overall=_overall_rows(systems),
        measures=list(MEASURES.values()),
        tags=_tag_rows(systems),
        characters=characters,
        open_characters=open_characters,
    )
    path.write_text(html, encoding="utf-8")


def _overall_rows(systems: Mapping[str, LayerScores]) -> list[dict[str, Any]]:
    return [
        {
            "title": title,
            "lower": measure in LOWER_IS_BETTER,
            "cells": [_cell(measure, scores.overall[measure]) for scores in systems.values()],
        }
        for measure, title in OVERALL.items()
    ]


def _tag_rows(systems: Mapping[str, LayerScores]) -> list[dict[str, Any]]:
    if not systems:
        return []
    first = next(iter(systems.values()))
    return [
        {
            "tag": tag,
            "present": first.present[tag],
            "groups": [
                [_cell(measure, scores.tags[tag][measure]) for scores in systems.values()]
                for measure in MEASURES
            ],
        }
        for tag in first.tags
    ]


def _cell(measure: str, value: float | None) -> dict[str, Any]:
    bar = round(100 * value, 1) if value is not None and measure in _SHARES else None
    return {"text": format_value(measure, value), "bar": bar}


def _numbers(scores: CharacterScores | None) -> tuple[tuple[str, str], ...]:
    if scores is None:
        return ()
    measured = [
        (title, format_value(measure, scores.mean(measure))) for measure, title in MEASURES.items()
    ]
    error = format_value("composite_error", scores.composite_error)
    return (*measured, (OVERALL["composite_error"], error))


def _iou(scores: CharacterScores | None, tag: str) -> str:
    measured = scores.tags.get(tag, {}) if scores is not None else {}
    return f"IoU {measured['iou']:.2f}" if "iou" in measured else ""


def data_uri(picture: Image8, side: int) -> str:
    """A picture as a PNG in a data URI, made smaller if it is larger than `side` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
