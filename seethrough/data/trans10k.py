"""Trans10K, photos with their masks of transparent objects, in its two published layouts.

Version 1 (TransLab, Xie et al., 2020) tells things, such as cups and bottles, from stuff, such as
windows and glass doors; version 2 (Trans2Seg, Xie et al., 2021) has the same 10,428 photos with
eleven classes. Both are downloaded by hand, for academic use, from where these pages say

    v1  `HOME_PAGE`
    v2  https://github.com/xieenze/Trans2Seg

and unpacked into a folder, such as `Trans10K` in a data root, that holds:

    v1  train/images/NAME.jpg                train/masks/NAME_mask.png
        validation/easy/images/NAME.jpg      validation/easy/masks/NAME_mask.png
        validation/hard/..., test/easy/..., test/hard/...
    v2  train/images/NAME.jpg                train/masks_12/NAME_mask.png
        validation/..., test/...

A mask of version 1 is black where there is nothing, of one pure primary colour at things and white
at stuff: what counts is the mean of its channels, 0, 85 or 255. A mask of version 2 holds the
index of the class. `python -m seethrough.trans10k check FOLDER` says what is wrong with a copy.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import attrs
import numpy as np

from seethrough.data.pictures import as_rgba, broken, decode, read_picture
from seethrough.errors import InputError

HOME_PAGE = "https://xieenze.github.io/projects/TransLAB/TransLAB.html"

Split = Literal["train", "validation", "test"]
Difficulty = Literal["easy", "hard"]
Version = Literal["v1", "v2"]

SPLITS: tuple[Split, ...] = get_args(Split)
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)

CLASSES: dict[Version, tuple[str, ...]] = {
    "v1": ("background", "things", "stuff"),
    "v2": (
        "background", "shelf", "jar or tank", "freezer", "window", "glass door", "eyeglass", "cup",
        "floor glass", "glass bowl", "water bottle", "storage box",
    ),
}  # fmt: skip
"""What the values of a mask mean, by version."""

MASK_FOLDERS: dict[Version, str] = {"v1": "masks", "v2": "masks_12"}
MASK_SUFFIX = "_mask.png"

_V1_CHANNEL_SUMS = {0: 0, 255: 1, 765: 2}
"""Class by the sum of a colour's three channels, thrice the mean."""


@attrs.frozen
class Pair:
    """A photo and its mask, two files."""

    photo: Path
    mask: Path
    version: Version
    """How the mask is to be read."""
    difficulty: Difficulty | None = None
    """None where the layout doesn't tell: in the training split, and in version 2."""

    @property
    def name(self) -> str:
        """The photo's name without its extension."""
        return self.photo.stem


def find_version(root: str | Path) -> Version:
    """Tell the version of a copy by its folders; one without any counts as version 1."""
    found = any(Path(root, split, MASK_FOLDERS["v2"]).is_dir() for split in SPLITS)
    return "v2" if found else "v1"


def find_pairs(root: str | Path, split: Split, difficulty: Difficulty | None = None) -> list[Pair]:
    """List the pairs of a split, by name, all easy ones before the hard ones.

    `difficulty` keeps those of one. No picture is opened. Raises InputError for an absent folder, a
    split without a photo, a photo without a mask, and a difficulty that the split doesn't tell.
    """
    pairs = [
        pair
        for pair in expected_pairs(root, split)
        if difficulty is None or pair.difficulty == difficulty
    ]
    if not pairs:
        kind = "" if difficulty is None else f"{difficulty} "
        raise InputError(
            f"{Path(root, split)}: no {kind}photo (images/*.jpg) in this split; lay the folder out "
            "as Trans10K: python -m seethrough.trans10k --help"
        )
    masks = {folder: _names(folder) for folder in {pair.mask.parent for pair in pairs}}
    missing = [pair for pair in pairs if pair.mask.name not in masks[pair.mask.parent]]
    if missing:
        raise InputError(
            f"{missing[0].photo}: its mask {missing[0].mask} does not exist, and so for "
            f"{len(missing)} of {len(pairs)} photos: add the masks or remove the photos"
        )
    return pairs


def expected_pairs(root: str | Path, split: Split) -> Iterator[Pair]:
    """Every photo of a split with the mask that it should have, in the order of `find_pairs`."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder of Trans10K; how to get and place it says "
            "python -m seethrough.trans10k --help"
        )
    version = find_version(root)
    for folder, difficulty in split_folders(root, split):
        for name in sorted(_names(folder / "images")):
            if name.lower().endswith(".jpg"):
                mask = folder / MASK_FOLDERS[version] / f"{Path(name).stem}{MASK_SUFFIX}"
                yield Pair(folder / "images" / name, mask, version, difficulty)


def split_folders(root: Path, split: Split) -> list[tuple[Path, Difficulty | None]]:
    """The folders of a split that hold images and masks, with the difficulty of each."""
    if split == "train" or find_version(root) == "v2":
        return [(root / split, None)]
    return [(root / split / difficulty, difficulty) for difficulty in DIFFICULTIES]


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8, an index into `CLASSES`.

    A camera's orientation (EXIF) is applied to the photo, and a grey one has three equal channels.
    Raises InputError, naming the file, if one can't be read or the mask has other colours than the
    version's, and naming both, if their sizes differ.
    """
    photo, mask = read_photo(pair.photo), read_mask(pair.mask, pair.version)
    if photo.shape[:2] != mask.shape:
        raise InputError(
            f"{pair.photo} has {size_text(photo)} px, but its mask {pair.mask} has "
            f"{size_text(mask)}: python -m seethrough.trans10k check FOLDER --write=OTHER writes a "
            "corrected copy"
        )
    return photo, mask


def read_photo(path: str | Path) -> np.ndarray:
    """Read a photo of any kind, upright: (H, W, 3) uint8 RGB; errors as of `read_picture`."""
    return read_picture(path)[..., :3]


def read_mask(path: Path, version: Version) -> np.ndarray:
    """Read a mask: (H, W) uint8, an index into the version's `CLASSES`.

    Raises InputError if the file is absent or broken, or holds other colours than those.
    """
    try:
        image = decode(path, path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such mask") from error
    except OSError as error:
        raise broken(path, error) from error
    if version == "v2":
        if image.mode not in ("P", "L"):
            raise InputError(
                f"{path}: pixels of kind {image.mode}, but a mask of version 2 holds one index of "
                "a class a pixel, with a palette or in grey"
            )
        levels = np.asarray(image)
        known = levels < len(CLASSES["v2"])
        if not known.all():
            found = ", ".join(map(str, np.unique(levels[~known])[:4]))
            raise InputError(f"{path}: no classes of version 2: {found}; they go from 0 to 11")
        return levels
    rgb = as_rgba(image, path)[..., :3]
    sums = rgb.astype(np.uint16).sum(-1)
    classes = np.full(766, len(CLASSES["v1"]), np.uint8)
    classes[list(_V1_CHANNEL_SUMS)] = list(_V1_CHANNEL_SUMS.values())
    mask = classes[sums]
    unknown = mask == len(CLASSES["v1"])
    if unknown.any():
        colours = [tuple(map(int, colour)) for colour in np.unique(rgb[unknown], axis=0)[:3]]
        raise InputError(
            f"{path}: colours that stand for nothing, such as {', '.join(map(str, colours))}, in "
            f"{int(unknown.sum())} of {unknown.size} pixels: a mask is black, a pure primary "
            "colour (things) or white (stuff), without soft edges"
        )
    return mask


def size_text(picture: np.ndarray) -> str:
    """The size of a picture or mask as people write it, width first."""
    return f"{picture.shape[1]} x {picture.shape[0]}"


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except FileNotFoundError:
        return set()
