import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.recipe import REQUIRED, RecipeError, from_record, to_record
from seethrough.recipe.merge import same
from tests.recipe.family import AdamW, Chain, Train
from tests.recipe.files import instances


@given(st.builds(Chain, first=instances(Train)))
@settings(max_examples=60, deadline=None)
def test_a_record_makes_an_equal_experiment(chain: Chain) -> None:
    assert same(from_record(json.loads(json.dumps(to_record(chain)))), chain)


def broken(change: Any) -> Any:
    """A record with one thing wrong."""
    record = to_record(AdamW())
    change(record)
    return record


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("text", 'expected {"schema"'),
        ({"recipe": {}}, "no schema version"),
        (broken(lambda r: r.update(schema=0)), "has schema 0, this version reads 1"),
        (broken(lambda r: r["recipe"].pop("class")), "expected a class and its fields"),
        (broken(lambda r: r["recipe"].update({"class": "json:loads"})), "is no recipe class"),
        (broken(lambda r: r["recipe"].update({"class": "no.such:X"})), "cannot be found"),
        (broken(lambda r: r["recipe"]["fields"].pop("lr")), "the record has not"),
        (broken(lambda r: r["recipe"]["fields"].update(rate=1)), "no such field; known"),
        (broken(lambda r: r["recipe"]["fields"].update(lr=-1.0)), "AdamW.lr = -1.0"),
        (broken(lambda r: r["recipe"]["fields"].update(betas=[1, 2, 3])), "element 2"),
        (broken(lambda r: r["recipe"]["fields"].update(lr={"source": "x"})), "does not accept"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(record: Any, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        from_record(record)
    assert message in str(error.value)


def test_a_value_that_is_required_is_not_recorded() -> None:
    with pytest.raises(RecipeError, match=r"first\.model: REQUIRED"):
        to_record(Chain(first=Train(model=REQUIRED)))
