"""Small networks for all tests of tasks, made once."""

from pathlib import Path

import pytest
import torch

from seethrough.recipe import Local
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.inflate import inflate_stage
from seethrough.tasks.layerdiff2d import LayerDiff2D
from tests.tasks.small import Small, context, stage_2d, write_small


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def unet_2d(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base's UNet with inputs for the page; the new inputs aren't zero any more."""
    stage = stage_2d(small)
    folder = tmp_path_factory.mktemp("unet_2d")
    task = LayerDiff2D(stage, context(stage, folder))
    model = task.build()
    with torch.no_grad():
        model.conv_in.weight[:, 4:] = 0.1  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
    return task.export(model, folder)["unet"]


@pytest.fixture(scope="session")
def unet_3d(unet_2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, inflated; blocks across frames and group embeddings aren't zero any more."""
    from seethrough.models import UNetFrameConditionModel
    from seethrough.models.checkpoints import load_model

    folder = tmp_path_factory.mktemp("unet_3d")
    stage = Inflate(unet=Local(str(unet_2d)))
    result = inflate_stage(stage, context(stage, folder))
    model = load_model(UNetFrameConditionModel, result.artifacts["unet"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for value in model.parameters():
            if not value.any():
                torch.nn.init.normal_(value, std=0.1)
    model.save_pretrained(folder / "moved")
    return folder / "moved"
