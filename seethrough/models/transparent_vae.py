"""The transparent VAE of LayerDiffuse: an alpha channel for the latents of an ordinary VAE.

An offset encoder hides transparency in the latents without disturbing what the ordinary VAE
decodes from them; a pixel UNet reads it back. Zhang and Agrawala, "Transparent Image Layer
Diffusion using Latent Transparency", 2024. State-dict keys are those of the published
`trans_vae/` folders; at the default config so are the shapes.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import (
    UNetMidBlock2D,
    get_down_block,
    get_up_block,
)
from torch import Tensor, nn

from seethrough.errors import InputError
from seethrough.models.checkpoints import load_into, read_state_dict

OFFSET_SCALE = 300.0
"""What the offset encoder's output is multiplied by, in units of the posterior's std."""


class OffsetEncoder(nn.Module):
    """A plain CNN from an ARGB picture to a latent offset, one stride of 2 per added level."""

    def __init__(self, channels: Sequence[int], latent_channels: int) -> None:
        super().__init__()
        convs = [
            nn.Conv2d(4, channels[0], 3, padding=1),
            nn.Conv2d(channels[0], channels[0], 3, padding=1),
        ]
        for narrow, wide in itertools.pairwise(channels):
            convs.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
            convs.append(nn.Conv2d(wide, wide, 3, padding=1))
        last = nn.Conv2d(channels[-1], latent_channels, 3, padding=1)
        # The output is scaled by 300: a new encoder must begin with no offset.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
        layers: list[nn.Module] = []
        for conv in convs:
            layers += [conv, nn.SiLU()]
        self.blocks = nn.Sequential(*layers, last)

    def forward(self, argb: Tensor) -> Tensor:
        """Map ARGB (N, 4, H, W) in [0, 1] to an offset (N, latent_channels, H/s, W/s), unscaled."""
        return self.blocks(argb)


class PixelDecoder(nn.Module):
    """A UNet from decoded RGB pixels and their latents to alpha and RGB (UNet1024 of LayerDiffuse).

    The latents join where the UNet's resolution equals theirs, just before the down block of
    index `latent_level`; attention begins one block deeper.
    """

    def __init__(
        self,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        norm_num_groups: int,
        attention_head_dim: int,
        latent_channels: int,
        latent_level: int,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        self.latent_level = latent_level
        self.side_multiple = 2 ** (len(widths) - 1)
        shared: dict[str, Any] = {
            "temb_channels": None,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": norm_num_groups,
            "attention_head_dim": attention_head_dim,
        }
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.latent_conv_in = nn.Conv2d(latent_channels, widths[latent_level - 1], 1)
        self.down_blocks = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        deepest = len(widths) - 1
        for level, width in enumerate(widths):
            last = level == deepest
            attention = level > latent_level
            self.down_blocks.append(
                get_down_block(
                    "AttnDownBlock2D" if attention else "DownBlock2D",
                    num_layers=layers_per_block,
                    in_channels=widths[max(level - 1, 0)],
                    out_channels=width,
                    add_downsample=not last,
                    downsample_padding=1,
                    downsample_type="conv",
                    **shared,
                )
            )
        self.mid_block = UNetMidBlock2D(in_channels=widths[-1], **shared)
        for level in range(deepest, -1, -1):
            self.up_blocks.append(
                get_up_block(
                    "AttnUpBlock2D" if level > latent_level else "UpBlock2D",
                    num_layers=layers_per_block + 1,
                    in_channels=widths[max(level - 1, 0)],
                    out_channels=widths[level],
                    prev_output_channel=widths[min(level + 1, deepest)],
                    add_upsample=level > 0,
                    upsample_type="conv",
                    **shared,
                )
            )
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[0], eps=1e-5)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, rgb: Tensor, latent: Tensor) -> Tensor:
        """Map RGB (N, 3, H, W) in [0, 1] and latents (N, C, H/s, W/s) to ARGB (N, 4, H, W).

        The result is not clipped to [0, 1].

        Raises:
            ValueError: when H or W is no multiple of `side_multiple` (64 at the published size).
        """
        height, width = rgb.shape[-2:]
        if height % self.side_multiple or width % self.side_multiple:
            raise ValueError(
                f"the pixel decoder takes sides that are multiples of {self.side_multiple}, got "
                f"{height} x {width}: pad the picture, as TransparentVAE.decode does"
            )
        hidden = self.conv_in(rgb)
        latent_feature = self.latent_conv_in(latent)
        skips = (hidden,)
        for level, block in enumerate(self.down_blocks):
            if level == self.latent_level:
                hidden = hidden + latent_feature
            hidden, block_skips = block(hidden)
            skips += block_skips
        hidden = self.mid_block(hidden)
        for block in self.up_blocks:
            count = len(block.resnets)  # pyright: ignore[reportArgumentType]
            hidden = block(hidden, skips[-count:])
            skips = skips[:-count]
        return self.conv_out(self.conv_act(self.conv_norm_out(hidden)))


Network = TypeVar("Network", bound=nn.Module)


class _Half(nn.Module, Generic[Network]):
    """One of the two networks, under the name `model` that the published keys have."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model


class TransparentVAE(ModelMixin, ConfigMixin):
    """Offset encoder and pixel decoder around a frozen AutoencoderKL, which every call is given.

    All latents here are unscaled: multiply by `vae.config.scaling_factor` for a diffusion model.

    Args:
        encoder_channels: widths of the offset encoder; all but the first halve the side, so
            their number sets the scale between pixels and latents (four: 8).
        block_out_channels: widths of the pixel decoder, each after the first at half the side.
        layers_per_block: residual blocks per decoder block.
        norm_num_groups: groups of the decoder's normalisations.
        attention_head_dim: channels of one attention head in the decoder.
        latent_channels: channels of the latents.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        encoder_channels: tuple[int, ...] = (32, 64, 128, 256),
        block_out_channels: tuple[int, ...] = (32, 32, 64, 128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 4,
        attention_head_dim: int = 8,
        latent_channels: int = 4,
    ) -> None:
        super().__init__()
        latent_level = len(encoder_channels) - 1
        if not 1 <= latent_level < len(block_out_channels):
            raise ValueError(
                f"block_out_channels {tuple(block_out_channels)} needs more widths than the "
                f"{latent_level} halvings of encoder_channels {tuple(encoder_channels)}, of which "
                "there must be at least one"
            )
        self.encoder = _Half(OffsetEncoder(encoder_channels, latent_channels))
        self.decoder = _Half(
            PixelDecoder(
                block_out_channels,
                layers_per_block,
                norm_num_groups,
                attention_head_dim,
                latent_channels,
                latent_level,
            )
        )
        self.latent_scale = 2**latent_level
        """Pixels per latent along a side."""

    def forward(self, argb: Tensor, rgb: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The offset of `argb` and the raw ARGB decoded from `rgb` and `latent`."""
        return self.offset(argb), self.decoder.model(rgb, latent)

    def offset(self, argb: Tensor) -> Tensor:
        """The latent offset of ARGB (N, 4, H, W) in [0, 1], in units of the posterior's std."""
        return OFFSET_SCALE * self.encoder.model(argb.to(self.device, self.dtype))

    def posterior(self, vae: AutoencoderKL, argb: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's latents, each (N, C, H/s, W/s), in its dtype.

        The VAE sees the picture premultiplied around mid-gray, `(2 rgb - 1) * alpha`.

        Args:
            vae: the VAE, on whose device and in whose dtype it is computed.
            argb: (N, 4, H, W) in [0, 1], alpha first.
        """
        argb = argb.to(vae.device, vae.dtype)
        alpha, rgb = argb[:, :1], argb[:, 1:]
        distribution = vae.encode((2 * rgb - 1) * alpha, return_dict=False)[0]
        return distribution.mean, distribution.std

    def encode(
        self,
        vae: AutoencoderKL,
        argb: Tensor,
        noise: Tensor | None = None,
        use_offset: bool = False,
    ) -> Tensor:
        """Latents of ARGB pictures, (N, C, H/s, W/s) in the VAE's dtype.

        Args:
            vae: the VAE.
            argb: (N, 4, H, W) in [0, 1], alpha first, colours bled under transparency.
            noise: standard normal values of the latents' shape, for a sample of the posterior.
                None gives its mean.
            use_offset: put the transparency offset in the noise's place.

        Raises:
            ValueError: when given both noise and use_offset.
        """
        if noise is not None and use_offset:
            raise ValueError("the offset takes the noise's place: give noise or use_offset")
        mean, std = self.posterior(vae, argb)
        if use_offset:
            noise = self.offset(argb)
        return mean if noise is None else mean + std * noise.to(mean)

    def decode(
        self, vae: AutoencoderKL, latents: Tensor, mask: Tensor | None = None, passes: int = 1
    ) -> Tensor:
        """Straight RGBA (N, 4, H, W) in [0, 1] from latents (N, C, H/s, W/s) of any size.

        Args:
            vae: the VAE, which decodes in its own dtype; the result has this module's.
            latents: unscaled latents.
            mask: (N or 1, 1, H, W) that multiplies alpha, e.g. the page's own alpha.
            passes: 1, or 8 for the median over all flips and rotations by 90 degrees.
        """
        if passes not in (1, 8):
            raise ValueError(f"passes is 1 or 8, got {passes}")
        vae_latents: Any = latents.to(vae.device, vae.dtype)
        rgb = vae.decode(vae_latents, return_dict=False)[0] * 0.5 + 0.5
        rgb = rgb.to(self.device, self.dtype)
        argb = self._decode_pixels(rgb, latents.to(self.device, self.dtype), passes)
        alpha, rgb = argb[:, :1], argb[:, 1:]
        if mask is not None:
            alpha = alpha * mask.to(alpha)
        return torch.cat([rgb, alpha], dim=1)

    def _decode_pixels(self, rgb: Tensor, latents: Tensor, passes: int) -> Tensor:
        """ARGB in [0, 1]: pads to the decoder's multiple, averages over symmetries, crops."""
        height, width = rgb.shape[-2:]
        multiple = self.decoder.model.side_multiple
        right, bottom = -width % multiple, -height % multiple
        scale = self.latent_scale
        rgb = F.pad(rgb, (0, right, 0, bottom), mode="replicate")
        latents = F.pad(latents, (0, right // scale, 0, bottom // scale), mode="replicate")
        views: list[Tensor] = []
        for view in range(passes):
            flip, quarter_turns = divmod(view, 4)
            turned = [
                torch.rot90(x.flip(-1) if flip else x, quarter_turns, (-2, -1))
                for x in (rgb, latents)
            ]
            argb = self.decoder.model(*turned).clamp(0, 1)
            argb = torch.rot90(argb, -quarter_turns, (-2, -1))
            views.append(argb.flip(-1) if flip else argb)
        argb = views[0] if passes == 1 else torch.stack(views).median(dim=0).values
        return argb[..., :height, :width]

    def load_layerdiffuse(self, encoder_file: Path, decoder_file: Path) -> None:
        """Read the two files of `lllyasviel/LayerDiffuse_Diffusers`, whose keys have no prefix.

        Raises:
            InputError: when a file does not hold exactly the tensors of its network.
        """
        load_into(self.encoder.model, read_state_dict(encoder_file), encoder_file)
        load_into(self.decoder.model, read_state_dict(decoder_file), decoder_file)

    def load_vae_checkpoint(self, file: Path, vae: AutoencoderKL) -> None:
        """Read a combined checkpoint into `vae` and into this module's networks.

        Its keys begin with `vae.` and, of networks that the file holds, `trans_decoder.` and
        `trans_encoder.`; the others stay. Where the autoencoder's decoder was trained alone, the
        published trainer had no pixel decoder.

        Raises:
            InputError: when a key belongs to none of them, or tensors are missing or do not fit.
        """
        parts = self._combined(vae)
        states: dict[str, dict[str, Tensor]] = {name: {} for name in parts}
        for key, value in read_state_dict(file).items():
            name, _, rest = key.partition(".")
            if name not in parts:
                raise InputError(
                    f"{file}: key {key!r} belongs to none of {', '.join(parts)}; is this a "
                    "combined VAE checkpoint?"
                )
            states[name][rest] = value
        for name, module in parts.items():
            if states[name] or name == "vae":
                load_into(module, states[name], file, prefix=f"{name}.")

    def combined_state(self, vae: AutoencoderKL) -> dict[str, Tensor]:
        """Both networks' tensors under the keys of a combined checkpoint."""
        return {
            f"{name}.{key}": value
            for name, module in self._combined(vae).items()
            for key, value in module.state_dict().items()
        }

    def _combined(self, vae: AutoencoderKL) -> dict[str, nn.Module]:
        """What keys of a combined checkpoint begin with, and of which network they are."""
        return {"vae": vae, "trans_decoder": self.decoder, "trans_encoder": self.encoder}
