"""Masks of body parts in files: published ones, and what is said of bad ones."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seethrough.data.part_masks import encode_mask, mask_file, read_part_masks
from seethrough.data.part_tags import FACE_CLASSES
from seethrough.data.tags import HEAD_PARTS, STORED_MASK_ORDER, TAGS_V1, TAGS_V2, TAGS_V3
from seethrough.errors import InputError

SIZE = (4, 6)


def plane(place: int) -> np.ndarray:
    """A mask of one pixel, another for each place."""
    mask = np.zeros(SIZE, bool)
    mask.flat[place] = True
    return mask


def write(folder: Path, tags: Sequence[str], **more: dict[str, Any]) -> Path:
    """Masks of one pixel each, with keys added to the entries of some tags."""
    entries = [
        {**encode_mask(plane(place)), **more.get(tag.replace(" ", "_"), {})}
        for place, tag in enumerate(tags)
    ]
    (folder / "page.json").write_text(json.dumps(entries))
    return folder / "page.png"


def test_run_lengths_are_cocos() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    assert encode_mask(mask) == {"size": [3, 4], "counts": "41202"}


@pytest.mark.parametrize("tags", [TAGS_V1, TAGS_V2, TAGS_V3, STORED_MASK_ORDER])
def test_the_number_of_masks_tells_their_tags(tmp_path: Path, tags: Sequence[str]) -> None:
    page = write(tmp_path, tags)
    found = read_part_masks(page, ("tail", "face"), SIZE)
    expected = [plane(tags.index(tag)) for tag in ("tail", "face")]
    assert np.array_equal(found.masks, expected) and found.valid.all()


def test_nineteen_masks_are_of_face_parsing_where_that_is_asked(tmp_path: Path) -> None:
    """The published faces are packed, in the order of their labels."""
    page = write(tmp_path, FACE_CLASSES)
    content = (tmp_path / "page.json").read_bytes()
    (tmp_path / "page.json").unlink()
    (tmp_path / "page.json.gz").write_bytes(gzip.compress(content))
    found = read_part_masks(page, ("nose", "l_eye", "foreground"), SIZE)
    assert [np.flatnonzero(mask).tolist() for mask in found.masks] == [
        [10], [4], list(range(1, 19)),
    ]  # fmt: skip
    # Asked for what both have, they are of V2.
    assert read_part_masks(page, ("nose",), SIZE).masks[0].flat[TAGS_V2.index("nose")]


def label_map(page: Path, labels: np.ndarray) -> Path:
    path = page.with_name("page_faceseg.png")
    Image.fromarray(labels).save(path)
    return path


def test_a_label_map_tells_a_class_at_each_pixel(tmp_path: Path) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(SIZE) % 19
    label_map(tmp_path / "page.png", labels)
    found = read_part_masks(tmp_path / "page.png", FACE_CLASSES, SIZE)
    assert np.array_equal(found.masks, [labels == place for place in range(19)])
    assert found.valid.all()
    (whole,) = read_part_masks(tmp_path / "page.png", ("foreground",), SIZE).masks
    assert np.array_equal(whole, labels > 0)


def test_a_label_map_counts_before_masks_for_faces_alone(tmp_path: Path) -> None:
    page = write(tmp_path, TAGS_V3)
    labels = label_map(page, np.full(SIZE, 10, np.uint8))
    assert mask_file(page, ("nose", "skin")) == labels
    assert mask_file(page, ("nose", "face")) == tmp_path / "page.json"
    assert read_part_masks(page, ("nose",), SIZE).masks.all()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((*SIZE, 3), np.uint8), "one channel of 8 bits, not RGB"),
        (np.zeros(SIZE, np.uint16), "one channel of 8 bits, not I;16"),
        (np.zeros((6, 4), np.uint8), "is 4 x 6 pixels, but the page is 6 x 4"),
        (np.full(SIZE, 19, np.uint8), "has label 19: those of face parsing are 0 to 18"),
    ],
)
def test_bad_label_maps_are_named(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    path = label_map(tmp_path / "page.png", labels)
    with pytest.raises(InputError, match=said) as caught:
        read_part_masks(tmp_path / "page.png", FACE_CLASSES, SIZE)
    assert str(path) in str(caught.value)


def test_a_label_map_has_no_other_parts(tmp_path: Path) -> None:
    path = label_map(tmp_path / "page.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match="classes of face parsing alone, which nose, face are not"):
        read_part_masks(tmp_path / "page.png", ("nose", "face"), SIZE)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"page_faceseg\.png: broken"):
        read_part_masks(tmp_path / "page.png", ("skin",), SIZE)


def test_masks_that_name_their_tags_may_be_any(tmp_path: Path) -> None:
    page = write(tmp_path, ("wings", "face"), wings={"tag": "wings"}, face={"tag": "face"})
    found = read_part_masks(page, ("face", "wings", "foreground"), SIZE)
    assert np.array_equal(found.masks, [plane(1), plane(0), plane(0) | plane(1)])


def test_packed_files_are_read_too(tmp_path: Path) -> None:
    page = write(tmp_path, TAGS_V2)
    text = (tmp_path / "page.json").read_bytes()
    (tmp_path / "page.json").unlink()
    (tmp_path / "page.json.gz").write_bytes(gzip.compress(text))
    assert read_part_masks(page, ("hair",), SIZE).masks[0, 0, 0]


def test_parts_make_up_what_is_not_stored(tmp_path: Path) -> None:
    """V2's hair; and the head, whose stored mask is empty in published files."""
    page = write(tmp_path, STORED_MASK_ORDER, front_hair={"is_valid": False})
    hair, head = read_part_masks(page, ("hair", "head"), SIZE).masks
    places = [TAGS_V3.index("front hair"), TAGS_V3.index("back hair")]
    assert np.flatnonzero(hair).tolist() == sorted(places)
    assert np.flatnonzero(head).tolist() == sorted(TAGS_V3.index(part) for part in HEAD_PARTS)
    # What one part of is not known is not known.
    assert read_part_masks(page, ("hair", "head", "foreground"), SIZE).valid.tolist() == [
        False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "neither page.json nor page.json.gz"),
        ("{", "can't be read"),
        ({"size": [4, 6]}, "are a list of objects"),
        (
            [{"size": [4, 6], "counts": "o0"}] * 5,
            "has 5 masks .* without it they are 19, 20, 23, 24",
        ),
        ([{"size": [6, 4], "counts": "o0"}] * 19, "is 4 x 6 pixels, but the page is 6 x 4"),
        ([{"counts": "o0"}] * 19, "mask of 'hair' can't be read"),
        ([{"size": [4, 6], "counts": 5}] * 19, "mask of 'hair' can't be read"),
        ([{"size": [4, 6], "counts": "o0", "tag": "face"}], "no mask of 'back hair'; it has face"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: Any, said: str) -> None:
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "page.json").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_part_masks(tmp_path / "page.png", ("hair",), SIZE)
    assert str(tmp_path) in str(caught.value)
