from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethrough.recipe import PositiveFloat, PositiveInt, Source
from seethrough.recipe.base import facts
from seethrough.recipe.kinds import Mismatch
from seethrough.recipe.merge import same
from seethrough.recipe.text import parse, write
from tests.recipe.family import Every
from tests.recipe.files import values_of

KINDS = {f.name: f.kind for f in facts(Every).fields.values() if f.name != "parts"}


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_value_is_read_back_from_its_text(name: str, data: st.DataObject) -> None:
    value = data.draw(values_of(KINDS[name]))
    text = write(KINDS[name], value)
    assert same(parse(KINDS[name], text), value), text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (float, "2e-5", 2e-5),
        (float, "1", 1.0),
        (int, "-3", -3),
        (bool, "true", True),
        (int | None, "none", None),
        (str, "none", "none"),
        (str, "1.10", "1.10"),
        (str, "2024_01_02", "2024_01_02"),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[int, ...], "(1, 2)", (1, 2)),
        (tuple[int, ...], "[1,2]", (1, 2)),
        (tuple[int, ...], "3", (3,)),
        (tuple[int, ...], "()", ()),
        (tuple[tuple[int, int], ...], "(1,2),(3,4)", ((1, 2), (3, 4))),
        (tuple[str, ...], "'a,b', c", ("a,b", "c")),
    ],
)
def test_forms_that_a_person_writes(kind: Any, text: str, value: Any) -> None:
    assert same(parse(kind, text), value)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "1.0", "expected int"),
        (int, "1_0", "expected int"),
        (int, "true", "expected int"),
        (float, "nan", "expected float"),
        (float, "1e999", "expected float"),
        (bool, "True", "expected true or false"),
        (bool, "1", "expected true or false"),
        (PositiveInt | None, "0", "expected int > 0 or none"),
        (PositiveFloat, "-1", "expected float > 0"),
        (tuple[int, int], "1,2,3", "expected a tuple (int, int)"),
        (tuple[int, ...], "1,,2", "expected a value between two commas"),
        (tuple[int, ...], "(1,2", "expected brackets and quotes that close"),
        (Source, "hub:", "hub:org/name[@revision] or file:path or stage:name/artifact"),
        (Source, "org/name", "hub:org/name[@revision] or file:path or stage:name/artifact"),
    ],
)
def test_text_that_a_kind_refuses(kind: Any, text: str, expected: str) -> None:
    with pytest.raises(Mismatch) as error:
        parse(kind, text)
    assert expected in str(error.value)
