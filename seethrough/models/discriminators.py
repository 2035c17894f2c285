"""Networks that tell true pictures from decoded ones, patch by patch or pixel by pixel.

State-dict keys are those of the published program. Convolutions start from a normal distribution
of deviation 0.02, also those under spectral normalisation: it is their own weight that is drawn,
not the normalised one that every forward pass makes anew.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

SLOPE = 0.2
"""Of leaky ReLUs below 0."""

INITIAL_STD = 0.02


class PatchDiscriminator(nn.Module):
    """PatchGAN: a judgement for each of many overlapping patches (Isola et al., "Image-to-Image
    Translation with Conditional Adversarial Networks", 2017), with group normalisation.

    With three layers a patch is 70 px wide: 256 px give 30 x 30 of them.
    """

    def __init__(self, in_channels: int, channels: int = 64, layers: int = 3) -> None:
        """`channels` of the first layer, doubled in each of `layers` up to eight times, of which
        each but the last halves the side as the first does; multiples of 32."""
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for level in range(1, layers + 1):
            stride = 1 if level == layers else 2
            blocks += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1),
                nn.GroupNorm(32, widths[level], eps=1e-6),
                nn.LeakyReLU(SLOPE),
            ]
        self.main = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        _draw_weights(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (N, 1, h, w) of pictures (N, C, H, W); high means true."""
        return self.main(pictures)


class UNetDiscriminator(nn.Module):
    """A judgement for each pixel, by a UNet under spectral normalisation (Wang et al.,
    "Real-ESRGAN", 2021)."""

    def __init__(self, in_channels: int, channels: int = 64) -> None:
        """`channels` of the first level, of four."""
        super().__init__()
        c = channels
        self.conv0 = nn.Conv2d(in_channels, c, 3, 1, 1)
        self.conv1 = nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(2 * c, 4 * c, 4, 2, 1, bias=False)
        self.conv3 = nn.Conv2d(4 * c, 8 * c, 4, 2, 1, bias=False)
        self.conv4 = nn.Conv2d(8 * c, 4 * c, 3, 1, 1, bias=False)
        self.conv5 = nn.Conv2d(4 * c, 2 * c, 3, 1, 1, bias=False)
        self.conv6 = nn.Conv2d(2 * c, c, 3, 1, 1, bias=False)
        self.conv7 = nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.conv8 = nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.conv9 = nn.Conv2d(c, 1, 3, 1, 1)
        _draw_weights(self)
        for number in range(1, 9):
            # Not the newer parametrization: its state-dict keys are others.
            torch.nn.utils.spectral_norm(getattr(self, f"conv{number}"))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (N, 1, H, W) of pictures (N, C, H, W) whose sides are multiples of 8."""
        levels = [_active(self.conv0(pictures))]
        for conv in (self.conv1, self.conv2, self.conv3):
            levels.append(_active(conv(levels[-1])))
        hidden = levels.pop()
        for conv, skip in zip((self.conv4, self.conv5, self.conv6), levels[::-1], strict=True):
            hidden = F.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)
            hidden = _active(conv(hidden)) + skip
        return self.conv9(_active(self.conv8(_active(self.conv7(hidden)))))


def discriminator_loss(
    true: Tensor,
    decoded: Tensor,
    kind: Literal["hinge", "vanilla"],
    weights: Tensor | float = 1.0,
) -> Tensor:
    """What the discriminator learns from its logits (N, 1, h, w) of both, (N,).

    `weights`, of the same shape, weigh what each logit gives. `hinge` asks for logits beyond 1 and
    -1, `vanilla` is the binary cross-entropy.
    """
    if kind == "hinge":
        of_true, of_decoded = F.relu(1 - true), F.relu(1 + decoded)
    else:
        of_true, of_decoded = F.softplus(-true), F.softplus(decoded)
    return 0.5 * ((of_true + of_decoded) * weights).flatten(1).mean(1)


def adaptive_weight(reconstruction_norm: Tensor, adversarial_norm: Tensor, weight: float) -> Tensor:
    """What to multiply the adversarial loss with so that it pulls `weight` times as hard as the
    reconstruction, by the norms (N,) of both gradients (Esser et al., "Taming Transformers", 2021).
    """
    return weight * (reconstruction_norm / (adversarial_norm + 1e-4)).clamp(0, 1e4)


def convolution_gradient_norms(inputs: Tensor, gradients: Tensor, conv: nn.Conv2d) -> Tensor:
    """Norms (N,) of each sample's own gradient of a convolution's weight.

    Args:
        inputs: what the convolution takes, (N, C, H, W).
        gradients: of its output, (N, K, H, W).
        conv: the convolution, of one group.
    """
    norms = [
        conv2d_weight(
            inputs[row : row + 1],
            list(conv.weight.shape),
            gradients[row : row + 1],
            stride=conv.stride,  # pyright: ignore[reportArgumentType]
            padding=conv.padding,  # pyright: ignore[reportArgumentType]
        ).norm()
        for row in range(len(inputs))
    ]
    return torch.stack(norms)


def _active(hidden: Tensor) -> Tensor:
    return F.leaky_relu(hidden, SLOPE)


def _draw_weights(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, INITIAL_STD)
