import re

import pytest

from seethrough.recipe import REQUIRED, RecipeError, diff, differences, draft, field_help, show
from seethrough.recipe.base import facts
from seethrough.recipe.paths import flatten, walk
from seethrough.recipe.report import Absent, Difference
from tests.recipe.family import Adafactor, AdamW, Chain, Train


def rows(text: str) -> dict[str, list[str]]:
    """Lines of a table by their first word."""
    return {line.split()[0]: line.split() for line in text.splitlines()[1:]}


def test_show_has_every_value_with_its_origin_and_derived_properties() -> None:
    made = draft(Chain(), "chain").override([("second.steps", "7")])
    table = rows(show(made))
    assert set(flatten(made.experiment)) < set(table)
    assert table["first.optim.lr"][1:3] == ["0.0003", "Chain"]
    assert table["first.optim.lr"][3].endswith(
        f"tests/recipe/family.py:{facts(Chain).origins['first.optim.lr'].line}"
    )
    assert table["second.steps"][1:] == ["7", "--second.steps", "(command", "line)"]
    assert table["second.samples"][1:] == ["56", "derived"]


def test_show_aligns_its_columns() -> None:
    lines = show(draft(Chain(), "chain")).splitlines()[1:]
    starts = {len(m[0]) for line in lines if (m := re.match(r"\S+\s+", line))}
    assert len(starts) == 1


def test_show_prints_a_derived_value_that_cannot_be_computed_yet() -> None:
    table = show(draft(Chain(first=Train(steps=REQUIRED)), "chain"))
    assert "first.samples" in table and "(none: " in table


def test_differences_are_exactly_the_fields_that_differ() -> None:
    other = Chain(first=Train(optim=Adafactor(), workers=5))
    assert differences(Chain(), Chain()) == []
    assert differences(Chain(), other) == [
        Difference("first.optim", AdamW, Adafactor),
        Difference("first.optim.lr", 3e-4, 1e-3),
        Difference("first.optim.betas", (0.9, 0.999), Absent()),
        Difference("first.workers", 2, 5),
        Difference("first.optim.scale", Absent(), None),
    ]


def test_diff_names_both_values_and_both_origins() -> None:
    a = draft(Chain(), "plain")
    b = a.override([("first.steps", "7")])
    text = diff(a, b).splitlines()
    assert text[1].split() == ["first.steps", "100", "7"]
    assert "by Train" in text[2] and "by --first.steps (command line)" in text[2]
    assert len(text) == 3
    assert diff(a, a) == "plain and plain hold the same values"


def test_help_has_each_field_with_docstring_and_what_it_accepts() -> None:
    made = draft(Chain(), "chain")
    text = field_help(made)
    for node in walk(made.experiment):
        assert f"--{node.path}=" in text
        assert node.field.doc in text
    assert "--first.optim.lr=0.0003  (float > 0)\n    Peak learning rate." in text
    assert "--first.workers=2  (int >= 0)  [execution]" in text


def test_a_draft_shows_although_it_does_not_resolve() -> None:
    made = draft(Chain(first=Train(model=REQUIRED)), "chain")
    assert rows(show(made))["first.model"][1] == "REQUIRED"
    with pytest.raises(RecipeError, match=r"first\.model: REQUIRED"):
        made.resolve()
