"""Distances between pictures in the features of networks that were trained on photographs.

Both networks see pictures in [0, 1] and bring them into the range that they were trained on
themselves. They are frozen, gradients go through them to the pictures, and they stay in evaluation
mode whatever the network around them does: the heads of LPIPS have a dropout, and blocks of
ConvNeXt are left out at random, as long as they train.
"""

from pathlib import Path
from typing import Any

import torch
import torchmetrics.functional.image.lpips as torchmetrics_lpips
from accelerate import init_empty_weights
from torch import Tensor, nn
from torchvision.models import convnext_tiny as torchvision_convnext_tiny
from torchvision.models.convnext import ConvNeXt_Tiny_Weights
from torchvision.models.vgg import VGG16_Weights

from seethrough.errors import InputError
from seethrough.models.checkpoints import load_into, read_state_dict
from seethrough.models.torch_files import read_torch_file

LPIPS_HEADS = Path(torchmetrics_lpips.__file__).parent / "lpips_models" / "vgg.pth"
"""What LPIPS learnt on top of VGG16, 1472 numbers: torchmetrics has them in its package."""

VGG16_SLICES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
"""Layers of VGG16 up to each of the five that LPIPS compares (relu1_2 to relu5_3)."""

CONVNEXT_TAPS = (2, 6, 10, 14)
"""Blocks of ConvNeXt-T, of 26, that are compared: of 96, 192, 192 and 384 channels, at a quarter,
an eighth, an eighth and a sixteenth of the side."""

CONVNEXT_DECAY = 0.99
"""By how much each block weighs less than the one before; the weights add up to 1."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PictureDistance(nn.Module):
    """A frozen network that compares two batches of pictures."""

    def train(self, mode: bool = True) -> "PictureDistance":
        """Stay in evaluation mode."""
        del mode
        return super().train(False)

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Distances (N,) of pictures from targets, each (N, 3, H, W) RGB in [0, 1]."""
        raise NotImplementedError


class LPIPS(PictureDistance):
    """LPIPS with VGG16, as torchmetrics computes it (Zhang et al., "The Unreasonable
    Effectiveness of Deep Features as a Perceptual Metric", 2018). Sides of at least 16 px."""

    def __init__(self, vgg16: dict[str, Tensor], source: str | Path) -> None:
        """Take the weights `features.*` of torchvision's VGG16; errors name `source`."""
        super().__init__()
        with init_empty_weights():
            # Class and options of torchmetrics' own metric, which would fetch VGG16 itself.
            self.network = torchmetrics_lpips._NoTrainLpips(
                net="vgg", pretrained=False, pnet_rand=True
            )
        load_into(self.network.net, _sliced(vgg16), source, prefix="features: ")
        heads = torch.load(LPIPS_HEADS, map_location="cpu", weights_only=True)
        for number in range(len(VGG16_SLICES)):
            weight = heads[f"lin{number}.model.1.weight"]
            load_into(self.network.lins[number], {"model.1.weight": weight}, LPIPS_HEADS)
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Distances (N,) of pictures from targets, each (N, 3, H, W) RGB in [0, 1]."""
        return self.network(pictures, targets, normalize=True).flatten()


class ConvNeXtDistance(PictureDistance):
    """Squared differences of the features of four blocks of ConvNeXt-T, weighted, the deeper the
    less. What lies behind the last of them is not computed."""

    def __init__(self, convnext: dict[str, Tensor], source: str | Path) -> None:
        """Take the weights `features.*` of torchvision's ConvNeXt-T; errors name `source`."""
        super().__init__()
        with init_empty_weights():
            network = torchvision_convnext_tiny()
        stages: Any = network.features
        names = [f"{i}.{j}" for i, stage in enumerate(stages) for j in range(len(stage))]
        names = names[: CONVNEXT_TAPS[-1] + 1]
        self.blocks = nn.ModuleList(stages.get_submodule(name) for name in names)
        state = {
            f"{block}.{key.removeprefix(f'features.{name}.')}": value
            for block, name in enumerate(names)
            for key, value in convnext.items()
            if key.startswith(f"features.{name}.")
        }
        load_into(self.blocks, state, source, prefix="features: ")
        shares = torch.tensor([CONVNEXT_DECAY**level for level in range(len(CONVNEXT_TAPS))])
        self.shares: Tensor
        self.register_buffer("shares", shares / shares.sum(), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor, targets: Tensor) -> Tensor:
        """Distances (N,) of pictures from targets, each (N, 3, H, W) RGB in [0, 1]."""
        found = self.features(pictures)
        with torch.no_grad():
            wanted = self.features(targets)
        pairs = zip(self.shares, found, wanted, strict=True)
        errors = [share * ((a - b) ** 2).mean((1, 2, 3)) for share, a, b in pairs]
        return torch.stack(errors).sum(0)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Features of the compared blocks, (N, C, h, w) each, of RGB in [0, 1]."""
        hidden = (pictures - self.mean) / self.std
        taps: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            hidden = block(hidden)
            if number in CONVNEXT_TAPS:
                taps.append(hidden)
        return taps


def lpips(weights: Path | None) -> LPIPS:
    """LPIPS with the VGG16 of a file, or of torch's cache.

    Raises:
        InputError: when there is no such file, or it is not of this network.
    """
    file = weights_file(weights, VGG16_Weights.IMAGENET1K_V1.url, "LPIPS")
    return LPIPS(_read(file), file)


def convnext_tiny(weights: Path | None) -> ConvNeXtDistance:
    """The distance with the ConvNeXt-T of a file, or of torch's cache.

    Raises:
        InputError: when there is no such file, or it is not of this network.
    """
    file = weights_file(weights, ConvNeXt_Tiny_Weights.IMAGENET1K_V1.url, "the ConvNeXt distance")
    return ConvNeXtDistance(_read(file), file)


def weights_file(given: Path | None, url: str, what: str) -> Path:
    """The file of a network's weights: the given one, that of a given folder as hub repositories
    have it, or that of torch's cache, which is asked only when none is given. Nothing is
    downloaded.

    Raises:
        InputError: when it isn't there, with where it comes from and where it belongs.
    """
    name = url.rpartition("/")[2]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name if given is None else given
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.is_file():
        raise InputError(
            f"{file}: no such file, and {what} needs it: get {url} and put it there"
            + (", or name another place" if given is None else f" ({name} is its usual name)")
        )
    return file


def _read(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of one of PyTorch's that holds nothing but tensors."""
    return read_state_dict(file) if file.suffix == ".safetensors" else read_torch_file(file)


def _sliced(vgg16: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of VGG16's convolutions, by the names that torchmetrics gives them."""
    places = {
        str(layer): f"slice{number}.{layer}"
        for number, (start, stop) in enumerate(VGG16_SLICES, start=1)
        for layer in range(start, stop)
    }
    sliced: dict[str, Tensor] = {}
    for key, value in vgg16.items():
        kind, layer, leaf = (*key.split("."), "", "")[:3]
        if kind == "features" and layer in places:
            sliced[f"{places[layer]}.{leaf}"] = value
    return sliced
