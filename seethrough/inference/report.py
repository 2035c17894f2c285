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
class ReportedCharacter:
    """One character's part of the report. Pictures are (R, R, 4) straight RGBA."""

    name: str
    page: Image8
    """What was decomposed; its colour is shown with the background."""
    layers: Mapping[str, Image8]
    """The predicted layers in the order they are shown."""
    recomposition: Image8
    """The predicted layers over each other."""
    truth: Truth | None = None
    """The true layers, if known."""
    scores: CharacterScores | None = None
    """The numbers, if the truth is known."""
    psd: str | None = None
    """Link to the layered file, relative to the report."""


def write_report(
    path: Path,
    *,
    title: str,
    introduction: str,
    characters: Sequence[ReportedCharacter],
    facts: Mapping[str, str] | None = None,
    systems: Mapping[str, LayerScores] | None = None,
    picture_side: int = 256,
    open_characters: int = 3,
) -> None:
    """Write the report.

    `introduction` is plain text, `facts` short pairs such as ("steps", "10"). `systems` are
    compared in a table, the one in question first. Pictures larger than `picture_side` are
    embedded smaller. The first `open_characters` show their layers at once, the others on a
    click. The same arguments give the same bytes.
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
        characters=[_character(character, picture_side) for character in characters],
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


def _character(character: ReportedCharacter, side: int) -> dict[str, Any]:
    truth, scores = character.truth, character.scores
    numbers: list[tuple[str, str]] = []
    if scores is not None:
        numbers = [
            (title, format_value(measure, scores.mean(measure)))
            for measure, title in MEASURES.items()
        ]
        numbers.append(
            (OVERALL["composite_error"], format_value("composite_error", scores.composite_error))
        )
    true_layers = truth.layers if truth is not None else {}
    tiles = [
        _tile(tag, layer, true_layers.get(tag), character, side)
        for tag, layer in character.layers.items()
        if tag in true_layers or (layer[..., 3] > 127).mean() > _SHOWN_AREA
    ]
    shown = {tile["tag"] for tile in tiles}
    return {
        "name": character.name,
        "psd": character.psd,
        "page": _data_uri(character.page[..., :3], side),
        "recomposition": _data_uri(character.recomposition, side),
        "numbers": numbers,
        "tiles": tiles,
        "known": truth is not None,
        "absent": [tag for tag in character.layers if tag not in shown],
    }


def _tile(
    tag: str, layer: Image8, true: Image8 | None, character: ReportedCharacter, side: int
) -> dict[str, Any]:
    note = ""
    if character.scores is not None:
        measured = character.scores.tags.get(tag, {})
        note = f"IoU {measured['iou']:.2f}" if "iou" in measured else ""
    return {
        "tag": tag,
        "note": note,
        "false": character.truth is not None and true is None,
        "predicted": _data_uri(layer, side),
        "true": None if true is None else _data_uri(true, side),
    }


def _data_uri(picture: Image8, side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
