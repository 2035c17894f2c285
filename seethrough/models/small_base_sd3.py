"""A small base checkpoint in the hub's layout like Stable Diffusion 3.5's, for rehearsals.

Its text encoders and its transformer are random by seed, its VAE is given.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    SD35AdaLayerNormZeroX,
)
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from torch import nn
from transformers import CLIPTextModelWithProjection

from seethrough.models.small_base import caption_tokenizer, copy_vae, random_text_encoder

T5_EXTRA = 8
"""How much wider than CLIP's features the text condition is, which is that of T5."""


def save_small_sd3(
    directory: str | Path,
    *,
    vae: str | Path,
    seed: int = 0,
    heads: int = 2,
    head_channels: int = 16,
    layers: int = 2,
    dual_layers: Sequence[int] = (0,),
    patch_size: int = 2,
    positions: int = 32,
    text_widths: tuple[int, int] = (16, 16),
    text_length: int = 4,
) -> None:
    """Write a small base like SD3.5's: two CLIP encoders, transformer, scheduler and VAE; no T5.

    Args:
        directory: the folder to write.
        vae: folder of an AutoencoderKL, which is copied; its config's scaling is kept.
        seed: of all random weights. The same arguments give the same bytes.
        heads: attention heads of the transformer.
        head_channels: width of a head.
        layers: transformer blocks.
        dual_layers: which of them attend a second time, among the picture's tokens alone.
        patch_size: side in latents of the square that is one token.
        positions: side in tokens of the largest picture.
        text_widths: widths of the two text encoders.
        text_length: tokens per caption.

    Raises:
        InputError: when `vae` is not the folder of an AutoencoderKL.
    """
    directory = Path(directory)
    latents = copy_vae(Path(vae), directory)
    tokenizer = caption_tokenizer([], text_length)  # only the empty prompt is ever encoded
    width = heads * head_channels
    config: dict[str, Any] = {
        "sample_size": positions * patch_size,
        "patch_size": patch_size,
        "in_channels": latents,
        "out_channels": latents,
        "num_layers": layers,
        "attention_head_dim": head_channels,
        "num_attention_heads": heads,
        "joint_attention_dim": sum(text_widths) + T5_EXTRA,
        "caption_projection_dim": width,
        "pooled_projection_dim": sum(text_widths),
        "pos_embed_max_size": positions,
        "dual_attention_layers": tuple(dual_layers),
        "qk_norm": "rms_norm",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for suffix, text_width in zip(("", "_2"), text_widths, strict=True):
            tokenizer.save_pretrained(directory / f"tokenizer{suffix}")
            encoder = random_text_encoder(
                CLIPTextModelWithProjection, tokenizer, text_width, 2, text_length
            )
            encoder.save_pretrained(directory / f"text_encoder{suffix}")
        transformer: Any = SD3Transformer2DModel.from_config(config)
    open_gates(transformer)
    transformer.save_pretrained(directory / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(directory / "scheduler")
    (directory / "model_index.json").write_text(json.dumps(_model_index(), indent=2))


@torch.no_grad()
def open_gates(transformer: nn.Module) -> None:
    """Let a new transformer's blocks begin as plain ones: no shift, no scale, gates of 1.

    diffusers draws the layers that modulate like any others; gates near 0 would let a network
    that trains for minutes learn little.
    """
    for norm in transformer.modules():
        if isinstance(norm, AdaLayerNormZero | SD35AdaLayerNormZeroX | AdaLayerNormContinuous):
            norm.linear.weight.mul_(0.1)
            bias = norm.linear.bias.zero_()
            if not isinstance(norm, AdaLayerNormContinuous):
                # Shift, scale and gate, of each thing that a block adds.
                parts = 6 if isinstance(norm, AdaLayerNormZero) else 9
                bias.view(parts // 3, 3, -1)[:, 2] = 1.0


def _model_index() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": [None, None],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
