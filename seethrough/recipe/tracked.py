"""Records which fields a run reads, so that a test finds the dead ones."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from seethrough.recipe.base import Recipe, facts
from seethrough.recipe.origins import children
from seethrough.recipe.source import caller

_paused = 0


@contextmanager
def unobserved() -> Generator[None]:
    """Reads inside do not count: rules and checks read fields without putting them to use."""
    global _paused
    _paused += 1
    try:
        yield
    finally:
        _paused -= 1


@contextmanager
def tracked_reads(recipe: Recipe) -> Generator[set[str]]:
    """Collect the paths of the fields of `recipe` that are read as attributes.

    The language itself reads fields another way (`base.get`), so that it does not count.
    Give the experiment of a `Resolved`: it holds every section once, so a read has one path.
    Not thread-safe where two of these overlap; reads in other processes are not seen.
    """
    paths: dict[int, str] = {}

    def place(value: Any, path: str) -> None:
        if isinstance(value, Recipe):
            paths[id(value)] = path
        for name, child in (children(value) or {}).items():
            place(child, f"{path}{name}.")

    place(recipe, "")
    reads: set[str] = set()

    def observe(self: Recipe, name: str) -> Any:
        value = object.__getattribute__(self, name)
        path = paths.get(id(self))
        if path is not None and not _paused and name in facts(type(self)).fields:
            reader = caller(1).f_code.co_filename
            # attrs compiles __eq__ and the like under names such as "<attrs generated ...>".
            if not reader.startswith("<attrs"):
                reads.add(path + name)
        return value

    Recipe.__getattribute__ = observe
    try:
        yield reads
    finally:
        del Recipe.__getattribute__
