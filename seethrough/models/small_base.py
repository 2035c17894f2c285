"""Small base checkpoints in the hub's layout, for rehearsals: SDXL's and Marigold's, narrower.

Their text encoders and their UNet are random by seed, their VAE is given. Whatever reads a base
from the hub reads these.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from seethrough.models.checkpoints import load_model

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def save_small_base(
    directory: str | Path,
    *,
    vae: str | Path,
    captions: Sequence[str],
    seed: int = 0,
    block_out_channels: Sequence[int] = (32, 64, 64),
    layers_per_block: int = 1,
    transformer_layers_per_block: Sequence[int] = (1, 1, 1),
    attention_heads: Sequence[int] = (1, 2, 2),
    norm_num_groups: int = 8,
    sample_size: int = 8,
    text_widths: tuple[int, int] = (32, 32),
    text_layers: int = 2,
    text_length: int = 77,
    addition_time_embed_dim: int = 8,
) -> None:
    """Write a small SDXL-shaped base: tokenizers, text encoders, scheduler, UNet and VAE.

    Args:
        directory: the folder to write.
        vae: folder of an AutoencoderKL, which is copied; its config's scaling factor is kept.
        captions: texts whose words the tokenizers know whole; all others they spell.
        seed: of all random weights. The same arguments give the same bytes.
        block_out_channels: widths of the UNet; the first block has no attention, as in SDXL.
        layers_per_block: residual blocks per UNet block.
        transformer_layers_per_block: transformer blocks per attention, one number a UNet block.
        attention_heads: attention heads, one number a UNet block.
        norm_num_groups: groups of the UNet's normalisations.
        sample_size: latent side that the UNet's config announces.
        text_widths: widths of the two text encoders; their sum is the cross-attention width, and
            the second is the pooled width.
        text_layers: layers of each text encoder, at least 2.
        text_length: tokens per caption.
        addition_time_embed_dim: width of each of the six embedded sizes.

    Raises:
        InputError: when `vae` is not the folder of an AutoencoderKL.
    """
    directory = Path(directory)
    copy_vae(Path(vae), directory)
    tokenizer = caption_tokenizer(captions, text_length)
    attention_blocks = len(block_out_channels) - 1
    unet_config: dict[str, Any] = {
        "sample_size": sample_size,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * attention_blocks,
        "up_block_types": ["CrossAttnUpBlock2D"] * attention_blocks + ["UpBlock2D"],
        "block_out_channels": list(block_out_channels),
        "layers_per_block": layers_per_block,
        "transformer_layers_per_block": list(transformer_layers_per_block),
        "attention_head_dim": list(attention_heads),
        "norm_num_groups": norm_num_groups,
        "use_linear_projection": True,
        "cross_attention_dim": sum(text_widths),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": addition_time_embed_dim,
        "projection_class_embeddings_input_dim": 6 * addition_time_embed_dim + text_widths[1],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder_classes = (CLIPTextModel, CLIPTextModelWithProjection)
        for suffix, encoder_class, width in zip(
            ("", "_2"), encoder_classes, text_widths, strict=True
        ):
            tokenizer.save_pretrained(directory / f"tokenizer{suffix}")
            encoder = random_text_encoder(encoder_class, tokenizer, width, text_layers, text_length)
            encoder.save_pretrained(directory / f"text_encoder{suffix}")
        unet: Any = UNet2DConditionModel.from_config(unet_config)
    unet.save_pretrained(directory / "unet")
    DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="epsilon",
        clip_sample=False,
        steps_offset=1,
    ).save_pretrained(directory / "scheduler")
    (directory / "model_index.json").write_text(json.dumps(_model_index(), indent=2))


def save_small_marigold(
    directory: str | Path,
    *,
    vae: str | Path,
    seed: int = 0,
    block_out_channels: Sequence[int] = (32, 64, 64),
    layers_per_block: int = 1,
    attention_heads: Sequence[int] = (1, 2, 2),
    norm_num_groups: int = 8,
    sample_size: int = 8,
    text_width: int = 32,
    text_layers: int = 1,
) -> None:
    """Write a small SD2-shaped base as Marigold's: its scheduler ends in pure noise.

    Args:
        directory: the folder to write.
        vae: folder of an AutoencoderKL, which is copied; its config's scaling factor is kept.
        seed: of all random weights. The same arguments give the same bytes.
        block_out_channels: widths of the UNet; the last block has no attention, as in SD2.
        layers_per_block: residual blocks per UNet block.
        attention_heads: attention heads, one number a UNet block.
        norm_num_groups: groups of the UNet's normalisations.
        sample_size: latent side that the UNet's config announces.
        text_width: width of the text encoder, and of cross-attention.
        text_layers: layers of the text encoder.

    Raises:
        InputError: when `vae` is not the folder of an AutoencoderKL.
    """
    directory = Path(directory)
    latents = copy_vae(Path(vae), directory)
    # No caption is ever encoded but the empty one.
    tokenizer = caption_tokenizer([], 77)
    attention_blocks = len(block_out_channels) - 1
    unet_config: dict[str, Any] = {
        "sample_size": sample_size,
        "in_channels": 2 * latents,
        "out_channels": latents,
        "down_block_types": ["CrossAttnDownBlock2D"] * attention_blocks + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attention_blocks,
        "block_out_channels": list(block_out_channels),
        "layers_per_block": layers_per_block,
        "attention_head_dim": list(attention_heads),
        "norm_num_groups": norm_num_groups,
        "use_linear_projection": True,
        "cross_attention_dim": text_width,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer.save_pretrained(directory / "tokenizer")
        encoder = random_text_encoder(CLIPTextModel, tokenizer, text_width, text_layers, 77)
        encoder.save_pretrained(directory / "text_encoder")
        unet: Any = UNet2DConditionModel.from_config(unet_config)
    unet.save_pretrained(directory / "unet")
    DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(directory / "scheduler")
    (directory / "model_index.json").write_text(json.dumps(_marigold_index(), indent=2))


def copy_vae(vae: Path, directory: Path) -> int:
    """Put an autoencoder into a base; returns the channels of its latents."""
    model = load_model(AutoencoderKL, vae)  # a broken VAE must not spread
    shutil.copytree(vae, directory / "vae", dirs_exist_ok=True)
    return int(model.config["latent_channels"])


def caption_tokenizer(captions: Sequence[str], length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with all bytes in its vocabulary, and each word of the captions."""
    bytes_alone: Any = _tokenizer([], length).backend_tokenizer
    words: list[str] = []
    for caption in captions:
        text = bytes_alone.normalizer.normalize_str(caption)
        words += [word for word, _ in bytes_alone.pre_tokenizer.pre_tokenize_str(text)]
    return _tokenizer(_byte_pair_merges(words), length)


def _byte_pair_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, the most frequent first, until each word is one token.

    The tokenizers library has a trainer, but its order among equals varies from run to run.
    """
    spellings = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    merges: list[tuple[str, str]] = []
    while pairs := Counter(p for parts in spellings.values() for p in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in spellings.values():
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def _tokenizer(merges: Sequence[tuple[str, str]], length: int) -> CLIPTokenizer:
    symbols = sorted(ByteLevel.alphabet())
    # The end token comes last: one way in which CLIP finds its place is the highest id.
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: index for index, token in enumerate([*tokens, BOS, EOS])}
    pairs: Any = list(merges)  # annotated too narrowly there
    return CLIPTokenizer(vocabulary, pairs, model_max_length=length)


def random_text_encoder(
    encoder_class: type[Any], tokenizer: CLIPTokenizer, width: int, layers: int, length: int
) -> Any:
    """A random text encoder whose features tell captions apart.

    Trained encoders give features of about unit size; transformers' initial values would give
    a hundredth of that, to which a UNet is blind.
    """
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    token_ids: dict[str, Any] = {name: getattr(tokenizer, name) for name in names}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        max_position_embeddings=length,
        hidden_act="gelu",
        **token_ids,
    )
    encoder = encoder_class(config)
    for module in encoder.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    # Words are large beside positions and beside the end token, which also pads: at its place
    # the encoder's output is then about the caption.
    words = encoder.get_input_embeddings().weight
    nn.init.normal_(words)
    with torch.no_grad():
        words[tokenizer.eos_token_id] *= 0.1
    return encoder


def _model_index() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": diffusers.__version__,
        "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _marigold_index() -> dict[str, Any]:
    return {
        "_class_name": "MarigoldDepthPipeline",
        "_diffusers_version": diffusers.__version__,
        "default_denoising_steps": 4,
        "default_processing_resolution": 768,
        "prediction_type": "depth",
        "scale_invariant": True,
        "shift_invariant": True,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
