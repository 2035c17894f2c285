"""The error of the recipe language, and its "did you mean"."""

import difflib
from collections.abc import Iterable

from seethrough.errors import InputError


class RecipeError(InputError):
    """A recipe, an override or a record that cannot stand; the message says where and why."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are close to `name`; without a close one, list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}" if known else "there are none"
