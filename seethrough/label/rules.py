"""Labels a character by all rules, around those that a person gave."""

from __future__ import annotations

import hashlib
import json

from seethrough.characters.form import Character
from seethrough.characters.labels import Label, Labels
from seethrough.data.layer_names import ENGLISH, JAPANESE, SILENT
from seethrough.data.tag_sets import MERGED
from seethrough.label.guess import Guess, combine
from seethrough.label.names import name_guess
from seethrough.label.parents import inherit
from seethrough.label.split import split_eyes, split_hair
from seethrough.label.votes import PartMap, visible_pixels, vote

_RULES = 1
"""Raised when the rules change: what older ones made is made again."""


def made_with(model: str | None) -> str:
    """What automatic labels depend on: the rules, the names, and the model of part masks."""
    tables = json.dumps([_RULES, list(ENGLISH.items()), list(JAPANESE.items()), SILENT])
    names = f"names {hashlib.sha256(tables.encode()).hexdigest()[:12]}"
    return names if model is None else f"{names}, masks {model}"


def automatic_labels(
    character: Character, tag_set: str, kept: Labels | None, parts: PartMap | None
) -> dict[str, Label]:
    """The labels of a character by layer id, in the order of its layers.

    Args:
        character: whose layers.
        tag_set: `v2` or `v3`.
        kept: labels in that set; those of a person stay, and tell about the layers beside them.
        parts: masks of parts over the canvas; without them the names alone decide.
    """
    persons = {} if kept is None else by_person(kept)
    fixed = {layer.index: persons[layer.id] for layer in character.layers if layer.id in persons}
    guesses = _first(character, fixed, parts)
    if tag_set == "v3":
        split_hair(character, guesses)
        split_eyes(character, guesses)
    merged = MERGED["v3", "v2"] if tag_set == "v2" else {}
    labels: dict[str, Label] = {}
    for layer in character.layers:
        if layer.index in fixed:
            labels[layer.id] = fixed[layer.index]
        elif (guess := guesses.get(layer.index)) is not None:
            tag = merged.get(guess.tag, guess.tag)
            labels[layer.id] = Label(tag, round(guess.confidence, 3), guess.by)
    return labels


def by_person(labels: Labels) -> dict[str, Label]:
    """The labels that a person gave, by layer id."""
    return {layer: label for layer, label in labels.layers.items() if label.by == "person"}


def _first(
    character: Character, fixed: dict[int, Label], parts: PartMap | None
) -> dict[int, Guess]:
    """What names, votes and groups say, `hair` and `eyes` still whole."""
    guesses = {
        index: Guess(label.tag, label.confidence, "person")
        for index, label in fixed.items()
        if label.tag is not None
    }
    seen = None if parts is None else visible_pixels(character)
    unknown: list[int] = []
    for layer in character.layers:
        if layer.index in fixed:
            continue
        votes = None
        if parts is not None and seen is not None:
            votes = vote(seen[layer.index], parts)
        guess = combine(name_guess(layer.path), votes)
        if guess is not None:
            guesses[layer.index] = guess
        # What is seen and has no vote is none of the parts; what isn't seen, nobody could tell.
        elif seen is None or not seen[layer.index].mask.any():
            unknown.append(layer.index)
    inherit(character, guesses, unknown)
    return dict(sorted(guesses.items()))
