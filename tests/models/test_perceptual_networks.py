"""Distances in features: right ranges, no dropout, and weights that are found or asked for.

The weights are seeded noise: no distance here says anything about pictures.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchmetrics.functional.image.lpips import ScalingLayer
from torchvision.models import convnext_tiny as torchvision_convnext_tiny

from seethrough.errors import InputError
from seethrough.models.perceptual_networks import (
    CONVNEXT_TAPS,
    PictureDistance,
    convnext_tiny,
    lpips,
)

VGG16_CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
    14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512),
    26: (512, 512), 28: (512, 512),
}  # fmt: skip
"""Layers of VGG16 that have weights, and their channels."""


def write_vgg16(path: Path) -> Path:
    """VGG16 as torchvision saves it, without most of its classifier, which nothing here reads."""
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for layer, (inputs, outputs) in VGG16_CONVOLUTIONS.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"features.{layer}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"features.{layer}.bias"] = torch.zeros(outputs)
    torch.save(state, path)
    return path


def write_convnext(path: Path) -> Path:
    """ConvNeXt-T as torchvision saves it, with new weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision_convnext_tiny().state_dict()
    # A new network's blocks are all but the identity.
    save_file({k: v + 0.3 if "layer_scale" in k else v for k, v in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vgg16(tmp_path_factory.mktemp("vgg16") / "vgg16.pth")


@pytest.fixture(scope="module")
def convnext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_convnext(tmp_path_factory.mktemp("convnext") / "convnext.safetensors")


@pytest.fixture(scope="module", params=["lpips", "convnext"])
def distance(request: pytest.FixtureRequest) -> PictureDistance:
    if request.param == "lpips":
        return lpips(request.getfixturevalue("vgg16"))
    return convnext_tiny(request.getfixturevalue("convnext"))


def pictures(seed: int, side: int = 32) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_distance_for_each_picture(distance: PictureDistance) -> None:
    one, other = pictures(0), pictures(1)
    found = distance(one, other)
    assert found.shape == (2,) and (found > 0).all()
    assert distance(one, one).abs().max() == 0
    torch.testing.assert_close(distance(one[1:], other[1:]), found[1:])


def test_gradients_reach_the_pictures_alone(distance: PictureDistance) -> None:
    one = pictures(0).requires_grad_()
    distance(one, pictures(1)).sum().backward()
    assert one.grad is not None and one.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())


def test_training_changes_nothing(distance: PictureDistance) -> None:
    """Dropout stays off when what is around is trained."""
    around = torch.nn.ModuleList([distance])
    expected = distance(pictures(0), pictures(1))
    around.train()
    assert around.training and not any(module.training for module in distance.modules())
    assert torch.equal(distance(pictures(0), pictures(1)), expected)


def test_lpips_is_the_published_formula_on_pictures_in_0_to_1(vgg16: Path) -> None:
    """Of features, each normalised over its channels, the weighted squares of differences."""
    one, other = pictures(2, 16), pictures(3, 16)
    state = torch.load(vgg16, weights_only=True)
    heads = lpips(vgg16).network
    scaling = ScalingLayer()
    total = torch.zeros(2)
    hidden = [scaling(2 * picture - 1) for picture in (one, other)]
    level = 0
    for layer in range(30):
        if layer in VGG16_CONVOLUTIONS:
            weight, bias = (state[f"features.{layer}.{leaf}"] for leaf in ("weight", "bias"))
            hidden = [torch.conv2d(x, weight, bias, padding=1).relu() for x in hidden]
        elif layer in (4, 9, 16, 23):
            hidden = [torch.max_pool2d(x, 2) for x in hidden]
        if layer in (3, 8, 15, 22, 29):
            unit = [x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in hidden]
            head: Any = getattr(heads, f"lin{level}").model[1].weight
            total += ((unit[0] - unit[1]) ** 2 * head[0]).sum(1).mean((1, 2))
            level += 1
    torch.testing.assert_close(lpips(vgg16)(one, other), total)


def test_convnext_compares_four_blocks_of_26(convnext: Path) -> None:
    distance: Any = convnext_tiny(convnext)
    torch.testing.assert_close(
        distance.shares, torch.tensor([0.253781, 0.251244, 0.248731, 0.246244]), atol=1e-6, rtol=0
    )
    one, other = pictures(0, 64), pictures(1, 64)
    found = distance.features(one)
    shapes = [tuple(tap.shape[1:]) for tap in found]
    assert shapes == [(96, 16, 16), (192, 8, 8), (192, 8, 8), (384, 4, 4)]
    whole: Any = torchvision_convnext_tiny().eval()
    whole.load_state_dict(load_file(convnext))
    blocks = [block for stage in whole.features for block in stage]
    assert len(blocks) == 26 and len(distance.blocks) == CONVNEXT_TAPS[-1] + 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    hidden = (one - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    taps = []
    with torch.no_grad():
        for number, block in enumerate(blocks):
            hidden = block(hidden)
            taps += [hidden] if number in (2, 6, 10, 14) else []
    for tap, expected in zip(found, taps, strict=True):
        torch.testing.assert_close(tap, expected)
    errors = [
        ((a - b) ** 2).mean((1, 2, 3)) for a, b in zip(taps, distance.features(other), strict=True)
    ]
    expected = sum(share * error for share, error in zip(distance.shares, errors, strict=True))
    torch.testing.assert_close(distance(one, other), expected)


def test_absent_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub/checkpoints"
    url = "https://download.pytorch.org/models"
    with pytest.raises(InputError) as error:
        lpips(None)
    assert f"{place}/vgg16-397923af.pth: no such file" in str(error.value)
    assert f"get {url}/vgg16-397923af.pth and put it there" in str(error.value)
    with pytest.raises(InputError, match=r"convnext_tiny-983f1562\.pth: no such file"):
        convnext_tiny(None)
    with pytest.raises(InputError, match=r"mine\.pth: no such file.*vgg16-397923af\.pth"):
        lpips(tmp_path / "mine.pth")


def test_weights_lie_in_torch_s_cache(
    vgg16: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub/checkpoints"
    place.mkdir(parents=True)
    (place / "vgg16-397923af.pth").symlink_to(vgg16)
    one, other = pictures(0, 16), pictures(1, 16)
    assert torch.equal(lpips(None)(one, other), lpips(vgg16)(one, other))


def test_a_file_of_something_else_is_refused(vgg16: Path, convnext: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"convnext\.safetensors: .* lacks tensors"):
        lpips(convnext)
    with pytest.raises(InputError, match=r"vgg16\.pth: "):
        convnext_tiny(vgg16)
    torn = tmp_path / "torn.pth"
    torn.write_bytes(vgg16.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"torn\.pth: not a readable file of torch\.save"):
        lpips(torn)
    code = tmp_path / "code.pth"
    torch.save({"weight": Path("x")}, code)
    with pytest.raises(InputError, match=r"code\.pth: holds more than plain tensors"):
        lpips(code)
    numbers = tmp_path / "numbers.pth"
    torch.save({"steps": 3}, numbers)
    with pytest.raises(InputError, match=r"numbers\.pth: holds no state dict"):
        lpips(numbers)
