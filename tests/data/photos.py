"""Small copies of Trans10K that tests make."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from seethrough.data.trans10k import MASK_FOLDERS, MASK_SUFFIX, Version

COLOURS = np.array([(0, 0, 0), (0, 255, 0), (255, 255, 255)], np.uint8)
"""Nothing, things, stuff, as a mask file of version 1 tells them."""


def write_photo(path: Path, photo: np.ndarray, orientation: int | None = None) -> Path:
    """Write a JPEG, with a camera's note of its orientation if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(photo).save(path, quality=95, subsampling=0, exif=exif)
    return path


def write_mask(path: Path, classes: np.ndarray, version: Version = "v1") -> Path:
    """Write a mask of classes, (H, W), as the version has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "v1":
        Image.fromarray(COLOURS[classes]).save(path)
    else:
        image = Image.frombytes("P", classes.shape[::-1], classes.astype(np.uint8).tobytes())
        image.putpalette([n * 20 for n in range(12) for _ in range(3)])
        image.save(path)
    return path


def scene(height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A photo with a bright box on a dark ground, off the middle, and its mask of classes."""
    classes = np.zeros((height, width), np.uint8)
    classes[2 : height // 2, 3 : width // 3] = 1
    photo = np.where(classes[..., None] > 0, 220, 30).astype(np.uint8).repeat(3, -1)
    return photo, classes


def write_pair(folder: Path, name: str, version: Version = "v1") -> tuple[Path, Path]:
    """Write `scene` into a folder of images and masks."""
    photo, classes = scene()
    return (
        write_photo(folder / "images" / f"{name}.jpg", photo),
        write_mask(folder / MASK_FOLDERS[version] / f"{name}{MASK_SUFFIX}", classes, version),
    )


def write_copy(root: Path, counts: Mapping[str, int], version: Version = "v1") -> Path:
    """Write so many pairs into each folder below a root, such as {"train": 3, "test/easy": 1}."""
    for folder, count in counts.items():
        for index in range(count):
            write_pair(root / folder, f"{index}", version)
    return root
