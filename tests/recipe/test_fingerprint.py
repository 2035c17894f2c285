from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.recipe import Hub, Local, RecipeError, change, evolve, fingerprint, identity_values
from seethrough.recipe.base import facts
from seethrough.recipe.merge import same
from tests.recipe.family import Adafactor, AdamW, Chain, Every, Train
from tests.recipe.files import instances, values_of


def test_the_encoding_stays_what_it_is() -> None:
    # A change here makes every finished stage of every user drift: raise VERSION with it.
    assert fingerprint(AdamW()) == GOLDEN


GOLDEN = "3038ad462aae9c43a7cd164c80fd72e3dc7eeb2d1d0ecc5a074fde979e738fee"


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_it_changes_with_every_value_that_is_identity(data: st.DataObject) -> None:
    old = data.draw(instances(Every))
    field = data.draw(st.sampled_from(list(facts(Every).fields.values())))
    new = evolve(old, **{field.name: data.draw(values_of(field.kind))})
    if "file:" not in str([*identity_values(old).values(), *identity_values(new).values()]):
        assert (fingerprint(old) == fingerprint(new)) is same(old, new)


@given(st.integers(0, 99))
def test_execution_never_enters(workers: int) -> None:
    assert fingerprint(Train(workers=workers)) == fingerprint(Train())


@pytest.mark.parametrize(
    "other",
    [
        Train(steps=101),
        Train(model=Hub("org/base", "main")),
        Train(optim=Adafactor(lr=1e-4)),
        evolve(Train(), optim=change(AdamW, betas=(0.9, 0.9990000000000001))),
    ],
)
def test_identity_enters(other: Train) -> None:
    assert fingerprint(other) != fingerprint(Train())


def test_execution_and_the_path_of_a_local_source_do_not_enter() -> None:
    assert fingerprint(Train(workers=0)) == fingerprint(Train(workers=9))
    here, there = Train(model=Local("a")), Train(model=Local("b"))
    assert fingerprint(here) == fingerprint(there) != fingerprint(Train())
    assert fingerprint(here, {"model": "1"}) != fingerprint(there, {"model": "2"})
    assert "workers" not in identity_values(Train())
    assert "first.workers" not in identity_values(Chain())


@pytest.mark.parametrize("value", [print, object(), b"x", {1: 2}, {"a": {1, 2}}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match=r"extra\.x.* has no fingerprint"):
        fingerprint(AdamW(), {"x": value})


def test_numbers_of_different_type_differ() -> None:
    prints = {fingerprint(AdamW(), {"x": value}) for value in (1, 1.0, True, "1", None, [1])}
    assert len(prints) == 6
