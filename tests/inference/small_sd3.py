"""A small model of transparency in diffusers' layout: SD3.5's shape, random weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from seethrough.models.empty_prompt_sd3 import PromptEmbeddings
from tests.tasks.small_sd3 import VAE_CONFIG

SIDE = 64
"""A resolution that the small model sees: 4 x 4 tokens."""


def small_prompt() -> PromptEmbeddings:
    """Three tokens of CLIP, 16 wide in a width of 32, and three of T5 that are zero."""
    generator = torch.Generator().manual_seed(5)
    embeds = torch.zeros(1, 6, 32)
    embeds[:, :3, :16] = torch.randn(1, 3, 16, generator=generator)
    return PromptEmbeddings(embeds, torch.randn(1, 16, generator=generator))


def write_small_transparency(folder: Path) -> Path:
    """Write `transformer` and `vae`: the same bytes at every call."""
    transformer_config: dict[str, Any] = {
        "sample_size": 8,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 16,
        "pos_embed_max_size": 12,
        "dual_attention_layers": (0,),
        "qk_norm": "rms_norm",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformer = SD3Transformer2DModel(**transformer_config)
        vae = AutoencoderKL(**VAE_CONFIG)
        with torch.no_grad():
            # A new network's mask is flat: every pixel on one side of the threshold.
            vae.decoder.conv_out.weight.mul_(6)
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    return folder
