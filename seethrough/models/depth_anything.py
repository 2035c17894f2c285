"""Depth Anything V2 (Yang et al., 2024): a DINOv2 backbone and a DPT head tell relative depth.

State-dict keys are those of the published `depth_anything_v2_vit*.pth`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional


@attrs.frozen
class Encoder:
    """Sizes of a backbone."""

    width: int
    depth: int
    heads: int
    taps: Sequence[int]
    """The four blocks whose outputs the head sees."""
    patch: int = 14
    """Side of a patch in px, an even number."""
    grid: int = 37
    """Side in patches of the square whose places are learnt; others are interpolated."""
    gated: bool = False
    """Whether the blocks' MLPs are gated (SwiGLU)."""


ENCODERS = {
    "vits": Encoder(384, 12, 6, (2, 5, 8, 11)),
    "vitb": Encoder(768, 12, 12, (2, 5, 8, 11)),
    "vitl": Encoder(1024, 24, 16, (4, 11, 17, 23)),
    "vitg": Encoder(1536, 40, 24, (9, 19, 29, 39), gated=True),
}
"""The published backbones."""


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer, 2020) with the widths of DINOv2."""

    def __init__(self, in_features: int, hidden_features: int, **_: Any) -> None:
        super().__init__()
        hidden = (int(hidden_features * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(in_features, 2 * hidden)
        self.w3 = nn.Linear(hidden, in_features)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


class DinoV2(VisionTransformer):
    """timm's vision transformer with DINOv2's keys and its interpolation of places."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(
            img_size=encoder.patch * encoder.grid,
            patch_size=encoder.patch,
            num_classes=0,
            embed_dim=encoder.width,
            depth=encoder.depth,
            num_heads=encoder.heads,
            init_values=1.0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            mlp_layer=GatedMlp if encoder.gated else Mlp,
            dynamic_img_size=True,
        )
        self.taps = list(encoder.taps)
        self.grid = encoder.grid
        # DINOv2 puts it in place of patches that it hides; here none is hidden.
        self.mask_token = nn.Parameter(torch.zeros(1, encoder.width), requires_grad=False)

    def forward(self, image: Tensor) -> list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map (B, 3, H, W) to the tapped blocks' normalised outputs (B, width, h, w)."""
        found: Any = self.forward_intermediates(
            image, indices=self.taps, norm=True, intermediates_only=True
        )
        return found

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add the places to patches (B, h, w, width), with the class token in front."""
        batch, height, width, channels = x.shape
        assert self.cls_token is not None and self.pos_embed is not None
        first, places = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (height, width) != (self.grid, self.grid):
            square = places.float().reshape(1, self.grid, self.grid, channels).permute(0, 3, 1, 2)
            # The tenth keeps rounding from losing a row; published weights know places with it.
            scale = ((height + 0.1) / self.grid, (width + 0.1) / self.grid)
            resized = functional.interpolate(square, scale_factor=scale, mode="bicubic")
            places = resized.permute(0, 2, 3, 1).reshape(1, -1, channels).to(places.dtype)
        tokens = torch.cat(
            [
                self.cls_token.expand(batch, -1, -1) + first,
                x.reshape(batch, -1, channels) + places,
            ],
            dim=1,
        )
        return self.pos_drop(tokens)


class ResidualConvUnit(nn.Module):
    """Two convolutions, each after a ReLU, beside the input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.conv1(functional.relu(x)))) + x


class FeatureFusionBlock(nn.Module):
    """Joins the coarser path with a level, and enlarges it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, path: Tensor, level: Tensor | None, size: Sequence[int]) -> Tensor:
        """Map (B, F, ...) to (B, F, *size); `level` has the path's size."""
        if level is not None:
            path = path + self.resConfUnit1(level)
        path = resized(self.resConfUnit2(path), size)
        return self.out_conv(path)


class DPTHead(nn.Module):
    """Fuses four tapped outputs from coarse to fine (Ranftl et al., 2021)."""

    def __init__(self, width: int, features: int, out_channels: Sequence[int], patch: int) -> None:
        super().__init__()
        one, two, three, four = out_channels
        self.patch = patch
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in out_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(one, one, 4, stride=4),
                nn.ConvTranspose2d(two, two, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(four, four, 3, stride=2, padding=1),
            ]
        )
        self.scratch = nn.Module()
        for index, channels in enumerate((one, two, three, four), start=1):
            rn = nn.Conv2d(channels, features, 3, padding=1, bias=False)
            self.scratch.add_module(f"layer{index}_rn", rn)
            self.scratch.add_module(f"refinenet{index}", FeatureFusionBlock(features))
        last = nn.Conv2d(32, 1, 1)
        # A ReLU follows: below zero everywhere, new weights would learn nothing.
        nn.init.ones_(last.bias)  # pyright: ignore[reportArgumentType]
        self.scratch.add_module("output_conv1", nn.Conv2d(features, features // 2, 3, padding=1))
        self.scratch.add_module(
            "output_conv2",
            nn.Sequential(nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), last, nn.ReLU()),
        )

    def forward(self, taps: Sequence[Tensor], control: Sequence[Tensor] | None = None) -> Tensor:
        """Map four (B, width, h, w) to depth (B, 1, patch h, patch w), at least 0.

        `control`, four (B, features, ...) of any size, is added: the first three, from fine to
        coarse, to what the fusions that end at the second, the third and the fourth level leave;
        the last to the coarsest level.
        """
        s: Any = self.scratch
        one, two, three, four = (
            getattr(s, f"layer{index}_rn")(resize(project(tap)))
            for index, (tap, project, resize) in enumerate(
                zip(taps, self.projects, self.resize_layers, strict=True), start=1
            )
        )
        if control is not None:
            four = added(four, control[3])
        path = s.refinenet4(four, None, three.shape[-2:])
        if control is not None:
            path = added(path, control[2])
        path = s.refinenet3(path, three, two.shape[-2:])
        if control is not None:
            path = added(path, control[1])
        path = s.refinenet2(path, two, one.shape[-2:])
        if control is not None:
            path = added(path, control[0])
        path = s.refinenet1(path, one, [2 * side for side in one.shape[-2:]])
        path = resized(s.output_conv1(path), [self.patch * side for side in taps[0].shape[-2:]])
        return s.output_conv2(path)


class DepthAnythingV2(ModelMixin, ConfigMixin):
    """The network.

    Args:
        encoder: one of `ENCODERS`, or the fields of another `Encoder`.
        features: channels of the head's fusion, 64, 128, 256 or 384 as published.
        out_channels: channels of the four tapped outputs in the head.
    """

    @register_to_config
    def __init__(
        self,
        encoder: str | Mapping[str, Any] = "vitl",
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
    ) -> None:
        super().__init__()
        sizes = find_encoder(encoder)
        self.pretrained = DinoV2(sizes)
        self.depth_head = DPTHead(sizes.width, features, out_channels, sizes.patch)

    def forward(self, image: Tensor) -> Tensor:
        """Tell depth, larger nearer, without unit, at least 0: (B, 1, H, W).

        `image` is (B, 3, H, W) as `network_image` gives it; H and W are multiples of the patch.
        """
        return self.depth_head(self.pretrained(image))

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Any = None) -> None:
        """Recompute each block of the backbone in the backward pass, by timm's own function."""
        self.pretrained.set_grad_checkpointing(True)


def find_encoder(encoder: str | Mapping[str, Any]) -> Encoder:
    """The sizes of a published backbone by name, or those given.

    Raises:
        ValueError: for an unknown name.
    """
    if not isinstance(encoder, str):
        return Encoder(**encoder)
    if encoder not in ENCODERS:
        raise ValueError(f"no backbone {encoder!r}; there are {', '.join(ENCODERS)}")
    return ENCODERS[encoder]


def network_image(rgb: Tensor) -> Tensor:
    """Normalise as ImageNet is: (..., 3, H, W) in [0, 1] -> mean 0, standard deviation 1."""
    mean, std = (
        rgb.new_tensor(values)[:, None, None]
        for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    return (rgb - mean) / std


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corner to corner."""
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def added(x: Tensor, signal: Tensor) -> Tensor:
    """`x` and a signal, brought to its size."""
    return x + functional.interpolate(signal, size=x.shape[-2:], mode="bilinear")
