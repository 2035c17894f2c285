"""A control adapter for Depth Anything V2: what is known of the depth steers what is told.

A small convolutional network in the manner of ControlNeXt (Peng et al., 2024) turns the control
into signals that are added in the head. State-dict keys are those of the published class, whose
forward pass takes no control and so can't run; it also keeps its head under a second name, which
safetensors refuse and this class leaves out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from seethrough.models.depth_anything import DepthAnythingV2, DinoV2, DPTHead, find_encoder

CONTROL_SCALE = 8
"""Side of the control in px for each patch of the picture."""


class ControlNet(nn.Module):
    """From a control to four signals, from fine to coarse, that start as zero."""

    def __init__(self, control_channels: int, widths: Sequence[int], features: int) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        half = first // 2
        self.embedding = nn.Sequential(
            nn.Conv2d(control_channels, half, 7, stride=2, padding=3, bias=False),
            nn.GroupNorm(2, half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.GroupNorm(2, half),
            nn.ReLU(),
            nn.Conv2d(half, first, 3, padding=1),
            nn.GroupNorm(2, first),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, stride=2, padding=1),
        )
        inputs = (first, *widths[:-1])
        self.res_block = nn.ModuleList(map(_residual, inputs, widths))
        self.down_sample = nn.ModuleList(
            # By any name but "conv", which would give the weights two keys.
            Downsample2D(width, use_conv=True, out_channels=width, name="op")
            for width in widths
        )
        self.out_convs = nn.ModuleList(nn.Conv2d(width, features, 3, padding=1) for width in widths)
        self.mid_convs = nn.ModuleList([_residual(last, last)])
        self.conv_out = nn.Conv2d(last, features, 3, padding=1)
        for conv in (*self.out_convs, self.conv_out):
            for parameter in conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, control: Tensor) -> list[Tensor]:
        """Map (B, C, 8 h, 8 w) to four (B, features, ...): of 2 h, h, h / 2 and h / 4 rows."""
        x = self.embedding(control)
        signals: list[Tensor] = []
        for residual, down, out in zip(
            self.res_block, self.down_sample, self.out_convs, strict=True
        ):
            x = residual(x, None)
            signals.append(out(x))
            x = down(x)
        return [*signals, self.conv_out(self.mid_convs[0](x, None))]


def _residual(channels: int, width: int) -> ResnetBlock2D:
    groups = max(width // 32, 1)
    none: Any = None  # no timestep's embedding, which diffusers' annotation doesn't foresee
    return ResnetBlock2D(
        in_channels=channels, out_channels=width, temb_channels=none, groups=groups, eps=1e-6
    )


class ExtendDepthAnythingV2(ModelMixin, ConfigMixin):
    """Depth Anything V2 and its adapter, which starts without effect.

    Args:
        encoder: as of `DepthAnythingV2`.
        features: likewise.
        out_channels: likewise.
        control_channels: of the control.
        control_widths: channels of the adapter's three levels, even numbers; from 32 on multiples
            of 32.
    """

    @register_to_config
    def __init__(
        self,
        encoder: str | Mapping[str, Any] = "vitl",
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        control_channels: int = 4,
        control_widths: Sequence[int] = (128, 256, 512),
    ) -> None:
        super().__init__()
        sizes = find_encoder(encoder)
        self.control_channels = control_channels
        self.backbone_ori = DinoV2(sizes)
        self.head_ori = DPTHead(sizes.width, features, out_channels, sizes.patch)
        self.head_adapter = nn.Module()
        self.head_adapter.add_module(
            "controlnet", ControlNet(control_channels, control_widths, features)
        )

    def forward(self, image: Tensor, control: Tensor | None = None) -> Tensor:
        """Tell depth as `DepthAnythingV2` does, (B, 1, H, W).

        `control` is (B, control_channels, ...) of any size; None is a control of zeros.
        """
        if control is None:
            batch, _, height, width = image.shape
            control = image.new_zeros(batch, self.control_channels, height, width)
        taps = self.backbone_ori(image)
        size = [CONTROL_SCALE * side for side in taps[0].shape[-2:]]
        controlnet: Any = self.head_adapter.controlnet
        return self.head_ori(
            taps, controlnet(functional.interpolate(control, size, mode="nearest"))
        )

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Any = None) -> None:
        """Recompute each block of the backbone in the backward pass, by timm's own function."""
        self.backbone_ori.set_grad_checkpointing(True)


def with_adapter(
    network: DepthAnythingV2, control_channels: int, control_widths: Sequence[int]
) -> ExtendDepthAnythingV2:
    """The network, whose weights it takes, with a new adapter from torch's generator."""
    config: Any = network.config
    sizes = {name: config[name] for name in ("encoder", "features", "out_channels")}
    extended = ExtendDepthAnythingV2(
        **sizes, control_channels=control_channels, control_widths=control_widths
    )
    extended.backbone_ori, extended.head_ori = network.pretrained, network.depth_head
    return extended


def unused_parameters(network: nn.Module) -> set[str]:
    """Names of the parameters, of either network, that no forward pass reads.

    The published weights have them: what stands for hidden patches, and a convolution for what the
    coarsest fusion would be joined with.
    """
    return {
        name
        for name, _ in network.named_parameters()
        if name.endswith("mask_token") or ".refinenet4.resConfUnit1." in name
    }
