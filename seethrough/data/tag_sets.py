"""The published sets of tags, old names of tags, and how one set is read in another."""

from collections.abc import Mapping

from seethrough.data.tags import TAGS_V1, TAGS_V2, TAGS_V3, V2_PARTS
from seethrough.errors import InputError
from seethrough.recipe.errors import nearest

TAG_SETS: dict[str, tuple[str, ...]] = {"v1": TAGS_V1, "v2": TAGS_V2, "v3": TAGS_V3}
"""Every set by its name, from the oldest to the newest."""

RENAMED = {"hairf": "front hair", "hairb": "back hair", "eyebg": "eyewhite"}
"""Names that published label files use for tags of V3, with those that they have today."""

MERGED: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("v3", "v2"): {part: whole for whole, parts in V2_PARTS.items() for part in parts},
}
"""From one set to a neighbour: the tags that become another. All others stay, where both sets
have them."""

SPLIT: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]] = {
    ("v1", "v2"): {
        "beard": ("face", "hair"),
        "skin": ("face", "neck", "topwear", "handwear", "bottomwear", "legwear"),
    },
    ("v2", "v3"): V2_PARTS,
    ("v2", "v1"): {"objects": ()},
}
"""From one set to a neighbour: the tags that could become any of several, or none at all. Only a
look at the picture tells which."""


def check_tag_set(name: str, where: str) -> str:
    """The name of a set, as given; raises InputError that begins with `where` for another."""
    if name not in TAG_SETS:
        raise InputError(f"{where}: no tag set {name!r}; {nearest(str(name), TAG_SETS)}")
    return name


def check_tag(tag: str, tag_set: str, where: str) -> str:
    """A tag of the set, by its name of today; raises InputError that begins with `where`."""
    known = TAG_SETS[tag_set]
    today = RENAMED.get(tag, tag)
    if today in known:
        return today
    raise InputError(f"{where}: {tag_set} has no tag {tag!r}; {nearest(tag, known)}")


def read_tag(tag: str, source: str, target: str) -> str:
    """A tag of one set as another set has it, by way of those between them.

    Raises:
        InputError: when the other set splits the tag, or has none like it.
    """
    names = list(TAG_SETS)
    first, last = names.index(source), names.index(target)
    step = 1 if last > first else -1
    for place in range(first, last, step):
        pair = names[place], names[place + step]
        choices = SPLIT.get(pair, {}).get(tag)
        if choices is not None:
            could = f"could be {', '.join(choices)}" if choices else "has no tag like it"
            raise InputError(f"{tag!r} of {pair[0]} can't be read in {pair[1]}: it {could}")
        tag = MERGED.get(pair, {}).get(tag, tag)
    return tag
