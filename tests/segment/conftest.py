"""A small model and photos for all tests of segmentation; nothing of the user's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seethrough.engine.model_options import write_options
from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.published_prompt import FOLDER, write_published_prompt
from seethrough.segment.options import FILE, ModelOptions
from tests.tasks.small_sd3 import SIDE, write_small_sd3


@pytest.fixture(autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and caches in a folder of the tests."""
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model in the published layout."""
    small = write_small_sd3(tmp_path_factory.mktemp("models"))
    write_published_prompt(small.base / FOLDER, read_prompt(small.prompt))
    write_options(small.base / FILE, ModelOptions(resolution=SIDE))
    return small.base


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five photos of different sizes: a.jpg to e.jpg."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate("abcde"):
        write_photo(folder / f"{name}.jpg", (50 + 7 * index, 90 - 9 * index), seed=index)
    return folder


def write_photo(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    """Write soft coloured blobs, of a size (height, width)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    pixels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
