"""An autoencoder with new weights, by its widths."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


def new_autoencoder(
    channels: Sequence[int],
    *,
    layers: int,
    norm_groups: int,
    latent_channels: int,
    side: int,
    initial_log_variance: float,
    quant_conv: bool = True,
) -> AutoencoderKL:
    """Make an AutoencoderKL; its weights are torch's next random numbers.

    Args:
        channels: of its levels; each but the last halves the side.
        layers: residual blocks a level.
        norm_groups: groups of its normalisation.
        latent_channels: channels of the latents.
        side: of the pictures, in px, as its config tells it.
        initial_log_variance: bias that the posterior's log variance starts from.
        quant_conv: whether a convolution follows the encoder and goes before the decoder, as in
            SD1 to SDXL, or the latents are what the encoder's last layer gives, as in SD3.
    """
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "block_out_channels": tuple(channels),
        "layers_per_block": layers,
        "latent_channels": latent_channels,
        "norm_num_groups": norm_groups,
        "sample_size": side,
    }
    if not quant_conv:
        config |= {"use_quant_conv": False, "use_post_quant_conv": False}
    vae = AutoencoderKL(**config)
    last: Any = vae.quant_conv if quant_conv else vae.encoder.conv_out
    with torch.no_grad():
        last.bias.chunk(2)[1].fill_(initial_log_variance)
    return vae
