"""Networks of the production classes with random weights, a few channels wide."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from seethrough.data.tags import TAGS_V2, TRAINING_TAGS
from seethrough.inference.decompose import LayerDiff
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.text_table import TextTable


def small_unet(**config: Any) -> UNetFrameConditionModel:
    """A 3D UNet; `config` adds to its config."""
    given: dict[str, Any] = {
        "sample_size": 4,
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossFrameAttnDownBlock"),
        "mid_block_type": "UNetMidBlockCrossFrameAttn",
        "up_block_types": ("CrossFrameAttnUpBlock", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 12,
        "transformer_layers_per_block": (1, 1),
        "attention_head_dim": (1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 34,
    }
    return UNetFrameConditionModel(**(given | config))


def small_models() -> LayerDiff:
    """All networks of the V3 flow; the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = small_unet(group_embedding=True, group_embedding_num=(13, 11), tag_version="v3")
        vae_config: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (4, 4, 8, 8),
            "norm_num_groups": 2,
            "latent_channels": 4,
            "scaling_factor": 0.13025,
        }
        vae = AutoencoderKL(**vae_config)
        trans_vae = TransparentVAE(
            encoder_channels=(4, 4, 4, 4),
            block_out_channels=(4, 4, 4, 8, 8),
            layers_per_block=1,
            norm_num_groups=2,
            attention_head_dim=4,
        )
        captions = tuple(dict.fromkeys((*TRAINING_TAGS, *TAGS_V2)))
        table = TextTable(
            captions, torch.randn(len(captions), 5, 12), torch.randn(len(captions), 10)
        )
    return LayerDiff(unet, vae, trans_vae, table)
