"""The published distributions of rendering, and values that make no sense."""

import pytest

from seethrough.recipe import load, show_value
from tests.recipes.rules import EXPERIMENTS, is_accepted, problems

RENDER = EXPERIMENTS / "render_v3.py"

PUBLISHED = {
    "geometry.long_side": (1280, 1280),
    "geometry.page_side": (1.0, 1.5),
    "background.zoom": (1.0, 1.0),
    "colour.match": 716 / 2048,
    "colour.match_above": 128,
    "colour.quantise": 0.0,
    "colour.quantise_colours": (12, 16, 32),
    "colour.hsv": 0.0,
    "colour.hsv_ranges": (0.015, 0.6, 0.4),
    "colour.light": 0.0,
    "seen_above": 25,
    "hidden_above": 0.9,
}


def test_distributions_are_the_published_ones() -> None:
    values = load(RENDER).values()
    found = {name: show_value(values[f"render.options.{name}"]) for name in PUBLISHED}
    assert found == {name: show_value(value) for name, value in PUBLISHED.items()}


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        (["geometry.long_side=(900, 800)"], "geometry.long_side"),
        (["geometry.page_side=(0.9, 1.5)"], "geometry.page_side"),
        (["background.zoom=(0.5, 2)"], "background.zoom"),
        (["background.colour_patches=(6, 2)"], "background.colour_patches"),
        (["colour.match=0.7", "colour.quantise=0.4"], "colour.quantise"),
        (["colour.quantise_colours=(1,)"], "colour.quantise_colours"),
        (["colour.light_gain=(1.2, 0.6)"], "colour.light_gain"),
        (["compat=true", "background.zoom=(1, 2)"], "background.zoom"),
    ],
)
def test_values_that_make_no_sense_are_named(flags: list[str], path: str) -> None:
    found = problems(RENDER, *(f"render.options.{flag}" for flag in flags))
    assert any(problem.startswith(f"render.options.{path}:") for problem in found)


def test_the_published_rules_are_a_flag() -> None:
    assert is_accepted(RENDER, "render.options.compat=true")
