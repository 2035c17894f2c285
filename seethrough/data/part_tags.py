"""What a class of body-part segmentation can be."""

from collections.abc import Sequence

from seethrough.data.tags import HEAD, TAGS_V1, TAGS_V2, TAGS_V3

BACKGROUND = "background"

FACE_CLASSES = (
    BACKGROUND,
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "glasses",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
)
"""The 19 classes of face parsing, each at its number in a label map; of the published samples none
has ear_r (an earring), l_lip (the lower one) or neck_l (a necklace)."""

FOREGROUND = "foreground"
"""All that belongs to any part."""

PART_TAGS = (
    *dict.fromkeys((*TAGS_V2, *TAGS_V3, *TAGS_V1, *FACE_CLASSES)),
    HEAD,
    FOREGROUND,
)
"""Every name that a class may have."""

_LEFT = {f"l_{part}": f"r_{part}" for part in ("brow", "eye", "ear")}
_MIRRORED = _LEFT | {right: left for left, right in _LEFT.items()}


def mirrored(tag: str) -> str:
    """What a part is when its picture is mirrored left to right: sides are those of the picture."""
    return _MIRRORED.get(tag, tag)


def of_face_parsing(tags: Sequence[str]) -> bool:
    """Whether all of some tags are classes of face parsing."""
    return {*tags} <= {*FACE_CLASSES, FOREGROUND}
