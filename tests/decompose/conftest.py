"""Small models and pictures for all tests of decomposition, made once; nothing of the user's."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.decompose.models import write_depth_model, write_layer_model
from tests.samples import write_sample
from tests.tasks.small import Small, write_small


@pytest.fixture(autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and caches in a folder of the tests."""
    torch.set_num_threads(1)
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def layer_model(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of V3's layout."""
    return write_layer_model(tmp_path_factory.mktemp("models") / "v3", small)


@pytest.fixture(scope="session")
def depth_model(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of Marigold 3D's layout."""
    return write_depth_model(tmp_path_factory.mktemp("models") / "marigold", small)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two characters, `one` and `two`."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one", "two"):
        page = write_sample(tmp_path / "samples", name)
        shutil.copy(page, folder)
    return folder
