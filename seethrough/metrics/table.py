"""Scores of several systems side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seethrough.metrics.layers import MEASURES, LayerScores

OVERALL = {
    "iou": MEASURES["iou"],
    "big_iou": "alpha IoU, big tags",
    "mae": MEASURES["mae"],
    "psnr": MEASURES["psnr"],
    "hidden_recall": MEASURES["hidden_recall"],
    "false_layers": MEASURES["false_layers"],
    "composite_error": "composite error",
}
"""The measures over all, with their names for people."""

LOWER_IS_BETTER = ("mae", "false_layers", "composite_error")


def format_value(measure: str, value: float | None) -> str:
    """One number as text; a dash where nothing could be measured."""
    if value is None:
        return "-"
    return f"{value:.1f}" if measure == "psnr" else f"{value:.3f}"


def comparison_table(systems: Mapping[str, LayerScores], width: int = 110) -> str:
    """Rows of all measures over all and then per tag, one column for each system.

    All systems measured the same characters. Bands of measures are as many as fit in `width`
    characters, at least one.
    """
    names = list(systems)
    first = next(iter(systems.values()))
    columns = [max(len(name), 5) for name in names]
    label = max(map(len, [*OVERALL.values(), *first.tags]))
    lines = [_row(f"{first.characters} characters", label, names, columns)]
    for measure, title in OVERALL.items():
        values = [format_value(measure, scores.overall[measure]) for scores in systems.values()]
        hint = "  (lower is better)" if measure in LOWER_IS_BETTER else ""
        lines.append(_row(title, label, values, columns) + hint)

    tag_width = max(map(len, first.tags))
    count_width = 4
    band_width = sum(columns) + 2 * len(columns) + 2
    per_band = max((width - tag_width - count_width - 2) // band_width, 1)
    measures = list(MEASURES)
    for start in range(0, len(measures), per_band):
        band = measures[start : start + per_band]
        lines.append("")
        lines.append(" " * (tag_width + count_width + 2) + _titles(band, band_width))
        head = _row("", tag_width, ["n"], [count_width])
        lines.append(head + "".join("  " + _row("", 0, names, columns) for _ in band))
        for tag in first.tags:
            line = _row(tag, tag_width, [str(first.present[tag])], [count_width])
            for measure in band:
                values = [
                    format_value(measure, scores.tags[tag][measure]) for scores in systems.values()
                ]
                line += "  " + _row("", 0, values, columns)
            lines.append(line)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(label: str, label_width: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    cells_text = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{label:<{label_width}}{cells_text}"


def _titles(band: Sequence[str], width: int) -> str:
    return "".join(f"{'    ' + MEASURES[measure]:<{width}}" for measure in band)
