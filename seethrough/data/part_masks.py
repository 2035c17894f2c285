"""The masks of body parts that lie beside a page: COCO run lengths or a label map, as published.

`page.json`, or `page.json.gz`, is a list of {"size": [height, width], "counts": "..."}, a mask a
tag. More keys may be there: `is_valid` false says that the mask is not to be relied on, and `tag`
what it is of. Without `tag` the number of masks tells: those of V1, of V2, of V3, or of V3 and
`head`. There are 19 of face parsing too: they are its classes when one is asked for that V2 lacks.

`page_faceseg.png` is a label map of face parsing: one channel of 8 bits, each pixel the number of
its class. It counts before the masks when nothing but classes of face parsing is asked for.
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

from seethrough.data.part_tags import (
    BACKGROUND,
    FACE_CLASSES,
    FOREGROUND,
    of_face_parsing,
)
from seethrough.data.pictures import decode
from seethrough.data.shards import is_file, read_bytes
from seethrough.data.tags import (
    HEAD,
    HEAD_PARTS,
    STORED_MASK_ORDER,
    TAGS_V1,
    TAGS_V2,
    TAGS_V3,
    V2_PARTS,
)
from seethrough.errors import InputError

_STORED = {len(tags): tags for tags in (TAGS_V2, TAGS_V1, TAGS_V3, STORED_MASK_ORDER)}

LABEL_MAP = "_faceseg"
"""What the name of a label map adds to its page's."""


@attrs.frozen(eq=False)
class PartMasks:
    """The masks of one page, a plane a tag."""

    masks: np.ndarray
    """(C, H, W) bool."""
    valid: np.ndarray
    """(C,) bool: whether a mask is to be relied on. One made of others is if they all are."""


def read_part_masks(page: Path, tags: Sequence[str], size: tuple[int, int]) -> PartMasks:
    """Read the masks beside a page, as `read_masks`; raises InputError when there is no file."""
    return read_masks(mask_file(page, tags), tags, size)


def read_masks(path: Path, tags: Sequence[str], size: tuple[int, int]) -> PartMasks:
    """Read the masks of some tags of a page of `size`, height and width, from a file.

    `hair` and `eyes` of V2 are made of V3's parts where only these are stored. So is `head`,
    always: published files have an empty mask in its place. `foreground` is all of them, but for
    face parsing's background.

    Raises:
        InputError: when it can't be read, a mask or label map has another size than the page, or
            one of the tags is not in it.
    """
    if path.suffix == ".png":
        return _read_label_map(path, tags, size)
    stored = _stored(path, tags)
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


def mask_file(page: Path, tags: Sequence[str]) -> Path:
    """The file beside a page with the masks of some tags; raises InputError when there is none."""
    labels = page.with_name(page.stem + LABEL_MAP + ".png")
    if of_face_parsing(tags) and is_file(labels):
        return labels
    for ending in (".json", ".json.gz"):
        path = page.with_name(page.stem + ending)
        if is_file(path):
            return path
    if is_file(labels):
        raise InputError(
            f"{labels}: has the classes of face parsing alone, which {', '.join(tags)} are not all"
        )
    raise InputError(
        f"{page}: has no masks: neither {page.stem}.json nor {page.stem}.json.gz lies beside it,"
        f" nor {labels.name}"
    )


def _read_label_map(path: Path, tags: Sequence[str], size: tuple[int, int]) -> PartMasks:
    image = decode(path, read_bytes(path))
    labels = np.asarray(image)
    if image.mode not in ("L", "P"):
        raise InputError(f"{path}: a label map has one channel of 8 bits, not {image.mode}")
    if labels.shape != size:
        raise InputError(
            f"{path}: the label map is {labels.shape[1]} x {labels.shape[0]} pixels, but the page"
            f" is {size[1]} x {size[0]}: they belong to different pictures"
        )
    if (last := int(labels.max())) >= len(FACE_CLASSES):
        raise InputError(
            f"{path}: has label {last}: those of face parsing are 0 to {len(FACE_CLASSES) - 1}"
        )
    masks = np.stack(
        [labels > 0 if tag == FOREGROUND else labels == FACE_CLASSES.index(tag) for tag in tags]
    )
    return PartMasks(masks, np.ones(len(tags), bool))


def _stored(path: Path, asked: Sequence[str] = ()) -> dict[str, Mapping[str, Any]]:
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
    elif len(entries) == len(FACE_CLASSES) and _need_face_parsing(asked):
        tags = FACE_CLASSES
    elif len(entries) in _STORED:
        tags = _STORED[len(entries)]
    else:
        raise InputError(
            f"{path}: has {len(entries)} masks that don't say their 'tag': without it they are"
            f" {', '.join(map(str, sorted(_STORED)))}"
        )
    return dict(zip(tags, entries, strict=True))


def _need_face_parsing(tags: Sequence[str]) -> bool:
    """Whether tags are of face parsing, and V2 doesn't have all of them."""
    return of_face_parsing(tags) and not {*tags} <= {*TAGS_V2, FOREGROUND}


def _parts(tag: str, stored: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The stored tags that a tag is made of."""
    if tag == FOREGROUND:
        return tuple(part for part in stored if part != BACKGROUND)
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
