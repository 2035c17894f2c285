"""Gives layers that nothing is known of the tag of those they lie among."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from seethrough.characters.form import Character
from seethrough.label.guess import Guess

FOUND = 0.5
"""How sure a tag is that all the others in a group have."""


def inherit(character: Character, guesses: dict[int, Guess], unknown: Iterable[int]) -> None:
    """Give each unknown layer, from back to front, the tag that most in its group have.

    A group in which no layer has a tag is left for the one around it. The top level decides for
    the layers in it alone. A tag that is given counts for the layers that follow.
    """
    groups: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for index, guess in guesses.items():
        groups[character.layers[index].path[:-1]][guess.tag] += 1
    for index in sorted(unknown):
        own = group = character.layers[index].path[:-1]
        while group and not groups[group]:
            group = group[:-1]
        votes = groups[group] if group or not own else Counter[str]()
        if votes:
            ((tag, count),) = votes.most_common(1)
            guesses[index] = Guess(tag, FOUND * count / votes.total(), "parent")
            groups[own][tag] += 1
