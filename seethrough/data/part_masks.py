"""The masks of body parts that lie beside a page: COCO run lengths, as published.

`page.json`, or `page.json.gz`, is a list of {"size": [height, width], "counts": "..."}, a mask a
tag. More keys may be there: `is_valid` false says that the mask is not to be relied on, and `tag`
what it is of. Without `tag` the number of masks tells: those of V2, of V3, or of V3 and `head`.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from pycocotools import mask as coco

from seethrough.data.part_tags import FOREGROUND
from seethrough.data.shards import is_file, read_bytes
from seethrough.data.tags import (
    HEAD,
    HEAD_PARTS,
    STORED_MASK_ORDER,
    TAGS_V2,
    TAGS_V3,
    V2_PARTS,
)
from seethrough.errors import InputError

_STORED = {len(tags): tags for tags in (TAGS_V2, TAGS_V3, STORED_MASK_ORDER)}


@attrs.frozen(eq=False)
class PartMasks:
    """The masks of one page, a plane a tag."""

    masks: np.ndarray
    """(C, H, W) bool."""
    valid: np.ndarray
    """(C,) bool: whether a mask is to be relied on. One made of others is if they all are."""


def read_part_masks(page: Path, tags: Sequence[str], size: tuple[int, int]) -> PartMasks:
    """Read the masks beside a page, as `read_masks`; raises InputError when there is no file."""
    return read_masks(mask_file(page), tags, size)


def read_masks(path: Path, tags: Sequence[str], size: tuple[int, int]) -> PartMasks:
    """Read the masks of some tags of a page of `size`, height and width, from a file.

    `hair` and `eyes` of V2 are made of V3's parts where only these are stored. So is `head`,
    always: published files have an empty mask in its place. `foreground` is all of them.

    Raises:
        InputError: when it can't be read, a mask has another size than the page, or one of the
            tags is not in it.
    """
    stored = _stored(path)
    decoded: dict[str, np.ndarray] = {}

    def mask(tag: str) -> np.ndarray:
        if tag not in decoded:
            decoded[tag] = _decode(path, tag, stored[tag], size)
        return decoded[tag]

    masks = np.zeros((len(tags), *size), bool)
    valid = np.zeros(len(tags), bool)
    for plane, tag in enumerate(tags):
        parts = _parts(tag, stored, path)
        for part in parts:
            masks[plane] |= mask(part)
        valid[plane] = all(bool(stored[part].get("is_valid", True)) for part in parts)
    return PartMasks(masks, valid)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) bool as COCO run lengths in JSON's terms."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    height, width = (int(side) for side in encoded["size"])
    counts: Any = encoded["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii")}


def stored_tags(path: Path) -> tuple[str, ...]:
    """The tags that a file has masks of, in its order; raises InputError as `read_masks`."""
    return tuple(_stored(path))


def mask_file(page: Path) -> Path:
    """The file of masks beside a page; raises InputError when there is none."""
    for ending in (".json", ".json.gz"):
        path = page.with_name(page.stem + ending)
        if is_file(path):
            return path
    raise InputError(
        f"{page}: has no masks: neither {page.stem}.json nor {page.stem}.json.gz lies beside it"
    )


def _stored(path: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of a file by their tags, not decoded."""
    try:
        raw = read_bytes(path)
        entries = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: the masks can't be read: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: masks are a list of objects, found {str(entries)[:60]!r}")
    if entries and all("tag" in entry for entry in entries):
        tags = [str(entry["tag"]) for entry in entries]
    elif len(entries) in _STORED:
        tags = _STORED[len(entries)]
    else:
        raise InputError(
            f"{path}: has {len(entries)} masks that don't say their 'tag': without it they are"
            f" {', '.join(map(str, _STORED))}"
        )
    return dict(zip(tags, entries, strict=True))


def _parts(tag: str, stored: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The stored tags that a tag is made of."""
    if tag == FOREGROUND:
        return tuple(stored)
    parts = (tag,)
    if tag == HEAD:
        parts = HEAD_PARTS
    elif tag not in stored:
        parts = V2_PARTS.get(tag, parts)
    for part in parts:
        if part not in stored:
            raise InputError(f"{path}: has no mask of {part!r}; it has {', '.join(stored)}")
    return parts


def _decode(path: Path, tag: str, entry: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    try:
        height, width = entry["size"]
        if (height, width) != size:
            raise InputError(
                f"{path}: the mask of {tag!r} is {width} x {height} pixels, but the page is"
                f" {size[1]} x {size[0]}: they belong to different pictures"
            )
        return np.asarray(coco.decode(entry), bool)  # pyright: ignore[reportArgumentType]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the mask of {tag!r} can't be read: {error!r}") from error
