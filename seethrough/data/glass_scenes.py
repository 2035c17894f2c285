"""Embedded scenes: real photographs with glass-like objects before them, in Trans10K's layout.

The photographs are those that scikit-image and scikit-learn ship. No photograph serves two splits:
what is measured on the test split is not learnt from its backgrounds.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import attrs
import cv2
import numpy as np

from seethrough.data.class_colours import THREE
from seethrough.data.glass_objects import draw_glass, place_glass
from seethrough.data.trans10k import (
    DIFFICULTIES,
    MASK_FOLDERS,
    MASK_SUFFIX,
    Difficulty,
    Split,
    split_folders,
)

PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "brick", "coffee", "coins", "grass", "motorcycle", "rocket"),
    "validation": ("camera", "gravel"),
    "test": ("chelsea", "china", "flower"),
}
"""Of which photographs the scenes of each split are made."""

VISIBILITY: dict[Difficulty | None, tuple[float, float]] = {
    None: (0.5, 1.0),
    "easy": (0.75, 1.0),
    "hard": (0.5, 0.75),
}
"""How visible objects are, least and most, by difficulty."""

_COLOURS = (255 * np.array(THREE)).astype(np.uint8)
"""RGB in a mask, by class."""


@attrs.frozen
class Scene:
    """One scene, square."""

    photo: np.ndarray
    """(S, S, 3) RGB."""
    mask: np.ndarray
    """(S, S): the class of version 1."""
    photograph: str
    """What is behind."""


def draw_scene(seed: int, split: Split, difficulty: Difficulty | None, size: int) -> Scene:
    """Draw a scene: part of one of the split's photographs behind one to three objects."""
    random = np.random.Generator(np.random.Philox(seed))
    name = PHOTOGRAPHS[split][int(random.integers(len(PHOTOGRAPHS[split])))]
    finer = 2 * size
    picture = _background(photograph(name), random, finer)
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(random.choice(3, p=(0.5, 0.35, 0.15))) + 1):
        glass = draw_glass(random, random.uniform(*VISIBILITY[difficulty]))
        picture, coverage = place_glass(picture, glass)
        covered = cv2.resize(coverage, (size, size), interpolation=cv2.INTER_AREA) > 0.5
        mask[covered] = 1 if glass.kind == "things" else 2
    photo = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return Scene(np.rint(photo * 255).astype(np.uint8), mask, name)


def write_scenes(root: Path, split: Split, count: int, size: int, seed: int) -> None:
    """Write a split of `count` scenes into a folder in the layout of Trans10K, version 1.

    Half of the scenes, at least, are easy where the split tells. A scene of a number is the same
    for any `count` above it.
    """
    for folder, difficulty in split_folders(root, split):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / MASK_FOLDERS["v1"]).mkdir(exist_ok=True)
        first = DIFFICULTIES.index(difficulty) if difficulty else 0
        for index in range(first, count, len(DIFFICULTIES) if difficulty else 1):
            digest = hashlib.blake2b(f"{seed}/{split}/{index}".encode(), digest_size=8).digest()
            scene = draw_scene(int.from_bytes(digest, "little"), split, difficulty, size)
            name = f"{index:05d}_{scene.photograph}"
            # Colour is not subsampled: at these sizes it would smear over whole objects.
            sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
            jpeg = (cv2.IMWRITE_JPEG_QUALITY, 95, *sampling)
            _write(folder / "images" / f"{name}.jpg", scene.photo, jpeg)
            _write(folder / MASK_FOLDERS["v1"] / f"{name}{MASK_SUFFIX}", _COLOURS[scene.mask])


@cache
def photograph(name: str) -> np.ndarray:
    """One of the photographs: (H, W, 3) RGB; a grey one has three equal channels."""
    picture = np.asarray(_sources()[name]())
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture


@cache
def _sources() -> Mapping[str, Callable[[], np.ndarray]]:
    # Both packages are large, and only rehearsals need them.
    import skimage.data
    from sklearn.datasets import load_sample_image

    names = {name for split in PHOTOGRAPHS.values() for name in split}
    others = {
        "china": partial(load_sample_image, "china.jpg"),
        "flower": partial(load_sample_image, "flower.jpg"),
        "motorcycle": lambda: skimage.data.stereo_motorcycle()[0],
    }
    return {**{name: getattr(skimage.data, name) for name in names - set(others)}, **others}


def _background(photo: np.ndarray, random: np.random.Generator, side: int) -> np.ndarray:
    """A random square of a photograph, perhaps mirrored, under light of another colour."""
    height, width = photo.shape[:2]
    crop = int(min(height, width) * random.uniform(0.4, 1))
    top, left = int(random.integers(height - crop + 1)), int(random.integers(width - crop + 1))
    part = photo[top : top + crop, left : left + crop]
    if random.random() < 0.5:
        part = part[:, ::-1]
    part = cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_AREA)
    # On a grey photograph any tint would stand out, so it is toned.
    grey = (part == part[..., :1]).all()
    gains = random.uniform(0.75, 1.1) * random.uniform(0.55 if grey else 0.9, 1.1, 3)
    return np.clip(part * gains / 255, 0, 1).astype(np.float32)


def _write(path: Path, rgb: np.ndarray, parameters: tuple[int, ...] = ()) -> None:
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), parameters)
    if not done:
        raise RuntimeError(f"{path}: OpenCV encoded no picture")
    path.write_bytes(data.tobytes())
