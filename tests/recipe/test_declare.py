import attrs
import pytest

from seethrough.recipe import REQUIRED, Experiment, Hub, Recipe, RecipeError, change
from seethrough.recipe.base import facts
from tests.recipe.family import AdamW, Chain, Every, Train
from tests.recipe.files import load_text


def test_instances_are_frozen_slotted_and_keyword_only() -> None:
    made = AdamW()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.lr = 1.0  # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(made, "__dict__")
    with pytest.raises(TypeError):
        AdamW(1.0)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="rate"):
        AdamW(rate=1.0)  # pyright: ignore[reportCallIssue]


def test_an_override_keeps_docstring_checks_execution_mark_and_place(tmp_path) -> None:
    made = load_text(
        tmp_path,
        '''
        @recipe
        class Short(Train):
            """Fewer steps and workers."""
            batch: int = 4
            workers: int = 0
        @recipe
        class Made(Experiment):
            """One stage."""
            only: Train = Short()
            """The stage."""
        ''',
    ).experiment
    short = type(made.stages()["only"])
    assert list(facts(short).fields) == list(facts(Train).fields)
    assert [a.name for a in attrs.fields(short)] == list(facts(Train).fields)
    field = facts(short).fields["batch"]
    assert field.doc == "Samples a step on one process."
    assert facts(short).fields["workers"].execution
    with pytest.raises(RecipeError, match=r"Short\.batch = 0 \(int\): expected int > 0"):
        short(batch=0)  # pyright: ignore[reportCallIssue]


def test_change_keeps_siblings_at_every_depth(tmp_path) -> None:
    made = load_text(
        tmp_path,
        '''
        @recipe
        class Made(Chain):
            """Other eps."""
            first: Train = change(Train, optim=change(AdamW, eps=1e-6), steps=7)
        ''',
    ).experiment
    assert isinstance(made, Chain)
    assert made.first == Train(optim=AdamW(lr=3e-4, eps=1e-6), steps=7)
    assert made.second == Chain().second
    assert list(made.stages()) == ["first", "second"]


def test_change_in_a_new_field_starts_from_the_class(tmp_path) -> None:
    made = load_text(
        tmp_path,
        '''
        @recipe
        class Made(Experiment):
            """One stage."""
            only: Train = change(Train, optim=change(AdamW, lr=1))
            """The stage."""
        ''',
    ).experiment
    assert made.stages() == {"only": Train(optim=AdamW(lr=1.0))}


def test_change_outside_a_class_refuses_what_is_no_recipe() -> None:
    with pytest.raises(RecipeError, match="expected a recipe class"):
        change(dict, a=1)


def test_a_new_stage_comes_last_and_overrides_keep_their_place(tmp_path) -> None:
    made = load_text(
        tmp_path,
        '''
        @recipe
        class Made(Chain):
            """Three stages."""
            third: Train = Train(model=Output("second", "unet"))
            """The last one."""
            first: Train = change(Train, steps=3)
        ''',
    ).experiment
    assert list(made.stages()) == ["first", "second", "third"]


def test_a_subclass_that_escapes_the_source_check_is_still_refused() -> None:
    # Made without a class statement, so that no source says whether it is decorated.
    with pytest.raises(RecipeError, match="cannot read the source of class Sneaky"):
        type("Sneaky", (AdamW,), {})


def test_required_passes_the_checks_until_it_is_resolved() -> None:
    assert Train(model=REQUIRED).model is REQUIRED
    assert Train(model=Hub("a/b")).model == Hub("a/b")


def test_field_docstrings_are_kept_as_one_line() -> None:
    assert facts(Every).fields["flag"].doc == "A switch."
    assert issubclass(Every, Recipe) and not issubclass(Every, Experiment)
