"""What a rule says of a layer, and how what two rules say becomes one."""

import attrs

from seethrough.characters.labels import By
from seethrough.data.tags import V2_PARTS

PART_OF = {part: whole for whole, parts in V2_PARTS.items() for part in parts}
"""The tag of V2 that a tag of V3 is a part of."""


@attrs.frozen
class Guess:
    """A tag for a layer: one of V3, or `hair` or `eyes` of V2 as long as nothing splits it."""

    tag: str
    confidence: float
    """0 to 1."""
    by: By


def agree(one: str, other: str) -> bool:
    """Whether two tags are the same, or one is a part of the other."""
    return one == other or PART_OF.get(one) == other or PART_OF.get(other) == one


def combine(name: Guess | None, votes: Guess | None) -> Guess | None:
    """The surer of two guesses; where they agree, the more exact tag, surer than either."""
    if name is None or votes is None:
        return name or votes
    if not agree(name.tag, votes.tag):
        return name if name.confidence >= votes.confidence else votes
    exact = votes if votes.tag in PART_OF and name.tag not in PART_OF else name
    both = 1 - (1 - name.confidence) * (1 - votes.confidence)
    return Guess(exact.tag, both, exact.by)
