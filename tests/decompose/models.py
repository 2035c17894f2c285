"""Small models on disk, laid out as the published repositories are."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from seethrough.data.tags import TAGS_V2
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import load_model
from seethrough.models.small_base import save_small_base, save_small_marigold
from tests.inference.small import small_unet
from tests.models.packed import save_packed
from tests.tasks.small import Small

RESOLUTION = 32


def write_layer_model(folder: Path, small: Small, **config: Any) -> Path:
    """A LayerDiff repository: V3's two passes, unless `config` of the UNet says otherwise."""
    shutil.copytree(small.base, folder)
    shutil.rmtree(folder / "unet")
    v3 = {"group_embedding": True, "group_embedding_num": (13, 11), "tag_version": "v3"}
    text = {"cross_attention_dim": 20, "projection_class_embeddings_input_dim": 32}
    save(small_unet(**(text | (config or v3))), folder / "unet", seed=1)
    vae = load_model(TransparentVAE, small.transparent_vae)
    vae.save_pretrained(folder / "trans_vae")
    return folder


def write_packed_layer_model(folder: Path, small: Small) -> Path:
    """A LayerDiff repository of V2's flow whose UNet has linear layers of 4 bits."""
    # Weights of 4 bits come in blocks of 64, and so are all widths here.
    vae = small.base / "vae"
    save_small_base(folder, vae=vae, captions=TAGS_V2, text_widths=(32, 32), text_length=6)
    shutil.rmtree(folder / "unet")
    unet = small_unet(
        block_out_channels=(64, 64),
        cross_attention_dim=64,
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=128,
        tag_version="v2",
    )
    save(unet, folder / "unet", seed=3)
    save_packed(load_model(UNetFrameConditionModel, folder / "unet"), folder / "unet")
    load_model(TransparentVAE, small.transparent_vae).save_pretrained(folder / "trans_vae")
    return folder


def write_depth_model(folder: Path, small: Small) -> Path:
    """A Marigold 3D repository."""
    save_small_marigold(folder, vae=small.base / "vae", text_width=16)
    shutil.rmtree(folder / "unet")
    frames = {"in_channels": 12, "addition_embed_type": None, "cross_attention_dim": 16}
    save(small_unet(**frames), folder / "unet", seed=2)
    return folder


def save(model: UNetFrameConditionModel | ModelMixin, folder: Path, seed: int) -> None:
    """Save a network with weights by seed, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
    model.save_pretrained(folder)
