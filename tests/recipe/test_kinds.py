from typing import Any, Literal

import pytest

from seethrough.recipe import (
    Hub,
    Local,
    Output,
    PositiveFloat,
    PositiveInt,
    RecipeError,
)
from seethrough.recipe.kinds import narrower, spell, unsupported
from tests.recipe.family import Adafactor, AdamW, Every, Part, Train


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flag": 1}, "Every.flag = 1 (int): expected true or false"),
        ({"count": True}, "Every.count = True (bool): expected int > 0"),
        ({"count": 0}, "Every.count = 0 (int): expected int > 0"),
        ({"count": 2.0}, "Every.count = 2.0 (float): expected int > 0"),
        ({"share": 1.5}, "Every.share = 1.5 (float): expected float >= 0 and <= 1"),
        ({"share": float("nan")}, "Every.share = nan (float): expected float"),
        ({"name": 3}, "Every.name = 3 (int): expected str"),
        ({"mode": "quick"}, "Every.mode = 'quick' (str): expected one of fast, slow or none"),
        ({"colour": "rgb"}, "Every.colour = 'rgb' (str): expected one of RGB, RGBA"),
        ({"pair": (1,)}, "Every.pair = (1,) (tuple): expected a tuple (int, float)"),
        ({"tags": ["a"]}, "use a tuple"),
        ({"tags": ("a", 1)}, "Every.tags = ('a', 1) (tuple): expected str"),
        ({"base": "org/name"}, "expected hub:org/name[@revision] or file:path or"),
        ({"parts": (AdamW(),)}, "expected Part"),
    ],
)
def test_a_wrong_value_is_refused_when_the_object_is_made(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as error:
        Every(**values)
    assert message in str(error.value)


def test_an_int_becomes_a_float_where_the_field_holds_floats() -> None:
    made = Every(share=1, pair=(1, 2), size=2)
    assert [type(v) for v in (made.share, made.pair[1], made.size)] == [float, float, float]


def test_a_union_of_sections_takes_each_member_and_no_other_class() -> None:
    assert Train(optim=Adafactor()).optim == Adafactor()
    with pytest.raises(RecipeError, match="expected AdamW or Adafactor"):
        Train(optim=Part())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hub(""),
        lambda: Hub("a/b/c"),
        lambda: Hub("a/b", ""),
        lambda: Local(" "),
        lambda: Output("1", "unet"),
        lambda: Output("train", ""),
    ],
)
def test_a_source_refuses_empty_and_malformed_parts(make: Any) -> None:
    with pytest.raises(RecipeError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("kind", "base", "expected"),
    [
        (int, int | None, True),
        (int | None, int, False),
        (PositiveInt, int, True),
        (int, float, False),
        (bool, int, False),
        (Literal["a"], Literal["a", "b"], True),
        (Literal["c"], Literal["a", "b"], False),
        (Literal["a"], str, True),
        (AdamW, AdamW | Adafactor, True),
        (Part, AdamW | Adafactor, False),
        (tuple[int, int], tuple[int, ...], True),
        (tuple[int, ...], tuple[int, int], False),
        (tuple[str, ...], tuple[int, ...], False),
    ],
)
def test_narrower(kind: Any, base: Any, expected: bool) -> None:
    assert narrower(kind, base) is expected


def test_kinds_are_spelled_as_python() -> None:
    assert spell(PositiveFloat | Literal["auto"] | None) == 'float | Literal["auto"] | None'
    assert spell(tuple[tuple[int, ...], ...]) == "tuple[tuple[int, ...], ...]"


def test_unsupported_kinds_say_what_to_use() -> None:
    assert "use tuple" in str(unsupported(list[int]))
    assert "not a kind" in str(unsupported(complex))
    assert unsupported(tuple[AdamW | None, ...]) is None
