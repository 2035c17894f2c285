"""What data parallel training hands to a checkpoint, and takes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from seethrough.engine.distribution import DataParallel
from seethrough.engine.optimizers import make_optimizer
from seethrough.engine.tensor_tree import load_tree, save_tree
from seethrough.recipes.training import AdamW
from seethrough.tasks.task import ParameterGroup


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def started(accelerator: Accelerator, weights: dict[str, Tensor]) -> DataParallel:
    """A convolution whose channels lie last, with fused AdamW."""
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    network.load_state_dict(weights)
    groups = [ParameterGroup("all", list(network.parameters()), 0.1)]
    return DataParallel(network, make_optimizer(AdamW(), groups), accelerator, None)


def step(training: DataParallel, pictures: Tensor) -> None:
    training.backward(training.model(pictures).square().mean())
    training.step()


def test_moments_find_their_weights_again_where_channels_lie_last(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    """A checkpoint's tensors are contiguous; fused AdamW walks in the order of memory."""
    torch.manual_seed(0)
    pictures = torch.randn(2, 3, 5, 5)
    whole = started(accelerator, nn.Conv2d(3, 4, 3).state_dict())
    step(whole, pictures)
    save_tree(whole.optimizer_state(), tmp_path / "optimizer")
    resumed = started(accelerator, whole.weights())
    resumed.set_optimizer_state(load_tree(tmp_path / "optimizer"))
    for training in (whole, resumed):
        step(training, pictures)
    assert whole.trained[0].is_contiguous(memory_format=torch.channels_last)
    assert all(map(torch.equal, whole.weights().values(), resumed.weights().values()))
