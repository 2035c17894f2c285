"""The body-part tags, their lists and their groups.

The order of each list is part of the published checkpoints: a tag's place in its group is its
frame in the 3D model, and the group embeddings have one row per frame.
"""

TAGS_V1 = (
    "hair",
    "headwear",
    "face",
    "eyes",
    "eyewear",
    "ears",
    "earwear",
    "nose",
    "beard",
    "mouth",
    "neck",
    "neckwear",
    "skin",
    "topwear",
    "handwear",
    "bottomwear",
    "legwear",
    "footwear",
    "tail",
    "wings",
)
"""The 20 tags of the first samples, in the order of their masks: with `beard` and `skin`, without
`objects`."""

TAGS_V2 = (
    "hair",
    "headwear",
    "face",
    "eyes",
    "eyewear",
    "ears",
    "earwear",
    "nose",
    "mouth",
    "neck",
    "neckwear",
    "topwear",
    "handwear",
    "bottomwear",
    "legwear",
    "footwear",
    "tail",
    "wings",
    "objects",
)
"""The 19 tags of the first published models."""

V2_PARTS = {
    "hair": ("back hair", "front hair"),
    "eyes": ("eyewhite", "irides", "eyelash", "eyebrow"),
}
"""The V2 tags that V3 splits, with their parts from back to front."""

TAGS_V3 = (
    "front hair",
    "back hair",
    "headwear",
    "face",
    "irides",
    "eyebrow",
    "eyewhite",
    "eyelash",
    "eyewear",
    "ears",
    "earwear",
    "nose",
    "mouth",
    "neck",
    "neckwear",
    "topwear",
    "handwear",
    "bottomwear",
    "legwear",
    "footwear",
    "tail",
    "wings",
    "objects",
)
"""The 23 tags of the V3 models: hair and eyes are split into their parts."""

HEAD = "head"
"""The composite tag: `HEAD_PARTS` over each other. It tells the second pass where the head is."""

HEAD_PARTS = (
    "face",
    "irides",
    "eyebrow",
    "eyewhite",
    "eyelash",
    "eyewear",
    "ears",
    "nose",
    "mouth",
)
"""The tags that the layer `head` is made of: no hair, no headwear, no earwear."""

TRAINING_TAGS = (HEAD, *TAGS_V3)
"""The 24 tags a V3 model is trained on."""

STORED_MASK_ORDER = (*TAGS_V3, HEAD)
"""The order of the visible masks in a sample's `.json`: `head` is last there, not first."""

BODY_GROUP = (
    "front hair",
    "back hair",
    HEAD,
    "neck",
    "neckwear",
    "topwear",
    "handwear",
    "bottomwear",
    "legwear",
    "footwear",
    "tail",
    "wings",
    "objects",
)
"""Group 0 of the 3D model: 13 frames, predicted on the whole page."""

HEAD_GROUP = (
    "headwear",
    "face",
    "irides",
    "eyebrow",
    "eyewhite",
    "eyelash",
    "eyewear",
    "ears",
    "earwear",
    "nose",
    "mouth",
)
"""Group 1 of the 3D model: 11 frames, predicted on a crop of the head."""

TAG_GROUPS = (BODY_GROUP, HEAD_GROUP)
"""The groups of the V3 model by group index."""

VERSION_GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {"v2": (TAGS_V2,), "v3": TAG_GROUPS}
"""The tag groups of each `tag_version` that a 3D UNet's config may name, one a pass."""

LEGWEAR_WITH_FOOTWEAR = "legwear,footwear"
"""The caption of `legwear` where a sample has no `footwear` layer: it may hold the shoes."""
