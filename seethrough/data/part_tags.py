"""What a class of body-part segmentation can be."""

from seethrough.data.tags import HEAD, TAGS_V2, TAGS_V3

FOREGROUND = "foreground"
"""All that belongs to any part."""

PART_TAGS = (*dict.fromkeys((*TAGS_V2, *TAGS_V3)), HEAD, FOREGROUND)
"""Every name that a class may have."""
