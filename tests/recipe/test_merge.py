from pathlib import Path

import pytest

from seethrough.recipe import Hub, RecipeError, change, evolve
from seethrough.recipe.code import subclass_code
from seethrough.recipe.merge import Change, carry, merge, same
from tests.recipe.family import Adafactor, AdamW, Chain, Every, Train
from tests.recipe.files import load_text


def made(value: object) -> Change:
    """What `change` truly returns at run time."""
    assert isinstance(value, Change)
    return value


def test_another_class_carries_over_what_was_changed_and_drops_the_rest() -> None:
    old = AdamW(eps=1e-6, betas=(0.8, 0.9))
    assert merge(old, made(change(Adafactor)), "optim") == Adafactor(eps=1e-6)


def test_another_class_keeps_its_own_default_where_nothing_was_changed() -> None:
    assert merge(AdamW(), made(change(Adafactor)), "optim") == Adafactor(lr=1e-3)


def test_a_default_of_its_own_against_a_changed_value_is_asked_about() -> None:
    with pytest.raises(RecipeError, match=r"optim\.lr: 0\.002 was set .* default 0\.001; say"):
        merge(AdamW(lr=2e-3), made(change(Adafactor)), "optim")
    named = merge(AdamW(lr=2e-3), made(change(Adafactor, lr=2e-3)), "optim")
    assert named == Adafactor(lr=2e-3)


def test_changing_a_base_class_keeps_the_derived_class() -> None:
    assert merge(Chain(), made(change(Chain)), "x") == Chain()


def test_carry_goes_into_sections_of_one_class() -> None:
    old = Train(every=Every(count=9), optim=AdamW(lr=5e-4))
    new, asked = carry(old, Train)
    assert new == old
    assert asked == {}


def test_evolve_reaches_nested_fields_and_checks_names_and_values() -> None:
    stage = evolve(Train(), model=Hub("a/b"), optim=change(AdamW, lr=1e-3))
    assert stage == Train(model=Hub("a/b"), optim=AdamW(lr=1e-3))
    with pytest.raises(RecipeError, match=r"Train\.stepps: no such field; did you mean steps\?"):
        evolve(Train(), stepps=3)
    with pytest.raises(RecipeError, match=r"Train\.steps = 0"):
        evolve(Train(), steps=0)


def test_same_tells_one_from_true_and_from_a_float() -> None:
    assert not same(1, True) and not same(1, 1.0) and not same((1,), (True,))
    assert same(Train(), Train()) and not same(Train(), Train(steps=3))


LOW = """
@recipe
class Low(Train):
    \"\"\"A lower rate.\"\"\"
    optim: AdamW = change(AdamW, lr=5e-5)
"""


def test_another_class_is_asked_about_nested_fields_too(tmp_path: Path) -> None:
    experiment = """
@recipe
class Made(Chain):
    \"\"\"A stage of another class.\"\"\"
    first: Low = change(Low{})
"""
    with pytest.raises(RecipeError, match=r"Made\.first\.optim\.lr: 0\.0003 was set for Train"):
        load_text(tmp_path, LOW + experiment.format(""))
    named = experiment.format(", optim=change(AdamW, lr=1e-5)")
    made = load_text(tmp_path, LOW + named).experiment
    assert isinstance(made, Chain)
    assert (type(made.first).__name__, made.first.optim) == ("Low", AdamW(lr=1e-5))
    code = subclass_code(Chain(), made, "Again", "Again.")
    assert "first: Train = change(Low, optim=change(AdamW, lr=1e-05))" in code
