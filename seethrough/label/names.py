"""The tag that a layer's name says, word by word: `Pearl` holds no ear and `Charm` no arm."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

import attrs

from seethrough.data.layer_names import ENGLISH, JAPANESE, SILENT
from seethrough.label.guess import Guess

PER_GROUP = 0.9
"""What each group between a name and the layer leaves of its confidence."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@attrs.frozen
class _Meaning:
    tag: str
    confidence: float
    weight: int
    """Words of the phrase: of two that match, the longer is meant."""


def name_guess(path: Sequence[str]) -> Guess | None:
    """The tag that a layer's path says, groups first and its own name last; None if nothing.

    The layer's own name decides, else the nearest group that says anything. A phrase may begin in
    a group and end in the name below: `Hair/Front`.
    """
    for distance, (outer, own) in enumerate(
        zip([*reversed(path[:-1]), ""], reversed(path), strict=True)
    ):
        found = _japanese(own) or _english(own, outer)
        if found is not None:
            return Guess(found.tag, found.confidence * PER_GROUP**distance, "name")
    return None


def words(name: str) -> list[str]:
    """The words of a name in lower case: at spaces, digits, signs and capitals."""
    plain = unicodedata.normalize("NFKC", name)
    return [word.lower() for word in _WORD.findall(plain)]


def _english(own: str, outer: str) -> _Meaning | None:
    """What the words of a name mean, helped by those of the group around it."""
    here, around = set(words(own)), set(words(outer))
    best: _Meaning | None = None
    for phrase, meaning in _phrases().items():
        if any(_has(here, word) for word in phrase) and all(
            _has(here, word) or _has(around, word) for word in phrase
        ):
            order = (meaning.weight, meaning.confidence)
            if best is None or order > (best.weight, best.confidence):
                best = meaning
    return best


def _has(known: set[str], word: str) -> bool:
    return word in known or f"{word}s" in known


@cache
def _phrases() -> dict[tuple[str, ...], _Meaning]:
    """Every phrase by its words; those of two also as one word, in either order."""
    found: dict[tuple[str, ...], _Meaning] = {}
    for confidence, tags in ENGLISH.items():
        for tag, phrases in tags.items():
            for phrase in phrases:
                parts = tuple(phrase.split())
                meaning = _Meaning(tag, confidence, len(parts))
                found[parts] = meaning
                if len(parts) > 1:
                    found.setdefault(("".join(parts),), meaning)
                    found.setdefault(("".join(reversed(parts)),), meaning)
    return found


def _japanese(name: str) -> _Meaning | None:
    """What a name of a script without spaces means: its last term, as the noun comes last."""
    rest = unicodedata.normalize("NFKC", name)
    for silent in SILENT:
        rest = rest.replace(silent, " ")
    found: list[str] = _terms().findall(rest)
    return _meanings()[found[-1]] if found else None


@cache
def _meanings() -> dict[str, _Meaning]:
    return {
        term: _Meaning(tag, confidence, 1)
        for confidence, tags in JAPANESE.items()
        for tag, terms in tags.items()
        for term in terms
    }


@cache
def _terms() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(_meanings(), key=len, reverse=True))))
