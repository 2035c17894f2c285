"""Helpers: an experiment's file from text, and strategies for the values of a field."""

import itertools
import textwrap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from seethrough.recipe import Draft, Hub, Local, Output, Range, Recipe, load
from seethrough.recipe.base import facts
from seethrough.recipe.kinds import members, split

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()

HEAD = """\
from typing import ClassVar
from seethrough.recipe import *
from tests.recipe.family import *
"""


def write_file(folder: Path, body: str, head: str = HEAD) -> Path:
    """A file with a fresh name, so that Python imports it anew."""
    path = folder / f"made_{next(_numbers)}.py"
    path.write_text(head + textwrap.dedent(body))
    return path


def load_text(folder: Path, body: str, head: str = HEAD) -> Draft:
    """The experiment of a file with this text."""
    return load(write_file(folder, body, head))


_WORD = st.from_regex(r"[A-Za-z][\w.-]{0,8}", fullmatch=True)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["none", "true", "1", "'a'", '"', "a,b", "(", "file:x", " a ", "\\", "don't"]
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a field of this kind accepts."""
    kind, marks = split(kind)
    parts = members(kind)
    if len(parts) > 1:
        return st.one_of([values_of(part) for part in parts])
    bounds = next((mark for mark in marks if isinstance(mark, Range)), Range())
    if kind is int:
        return st.integers().filter(bounds.holds)
    if kind is float:
        # Shares lie in 0..1; drawn there, few are filtered out.
        every = st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1)
        return every.filter(bounds.holds)
    if kind is str:
        return _TEXT
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if kind is Hub:
        return st.builds(Hub, _WORD, st.none() | _WORD)
    if kind is Local:
        return st.builds(Local, _TEXT.filter(lambda text: bool(text.strip())))
    if kind is Output:
        return st.just(Output("first", "unet"))
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        arguments = get_args(kind)
        if arguments[-1] is ...:
            return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(values_of, arguments))
    if issubclass(kind, Recipe):
        return instances(kind)
    return st.sampled_from(kind)


def instances(cls: type[Recipe]) -> st.SearchStrategy[Any]:
    """Instances of a recipe class with any values."""
    return st.builds(cls, **{f.name: values_of(f.kind) for f in facts(cls).fields.values()})
