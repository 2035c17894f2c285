"""The transformer of Stable Diffusion 3 and 3.5 (MM-DiT; Esser et al., 2024), as diffusers has it.

Used to tell a mask from a photo in one step it is always told the same timestep and the same
prompt; used to denoise one, the same prompt.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    SD35AdaLayerNormZeroX,
)
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from seethrough.models.checkpoints import (
    cast,
    empty_model,
    load_into,
    read_config,
    read_state_dict,
)

FIRST_LAYER = "pos_embed.proj.weight"
"""Key of the patch projection, (width, channels, patch, patch)."""


def transformer_folder(folder: str | Path) -> Path:
    """The folder of a transformer: the subfolder `transformer` of a folder in the hub's layout, or
    itself."""
    subfolder = Path(folder) / "transformer"
    return subfolder if subfolder.is_dir() else Path(folder)


def load_transformer(
    folder: str | Path, dtype: torch.dtype | None = None, in_channels: int | None = None
) -> SD3Transformer2DModel:
    """A transformer from its folder, in eval mode, on the CPU.

    Args:
        folder: `config.json` and weights, whole or sharded; or a base that has it as `transformer`.
        dtype: what to cast the weights to; None keeps the file's.
        in_channels: input channels to have; None keeps the file's. New ones come first, and their
            weights are zero, so that the network starts blind to them.

    Raises:
        InputError: when files are missing or damaged, or the weights do not fit the config.
    """
    folder = transformer_folder(folder)
    config, state = read_config(folder), read_state_dict(folder)
    new = 0 if in_channels is None else in_channels - int(config["in_channels"])
    if new > 0 and FIRST_LAYER in state:
        config["in_channels"] = in_channels
        state[FIRST_LAYER] = F.pad(state[FIRST_LAYER], (0, 0, 0, 0, new, 0))
    model = empty_model(SD3Transformer2DModel, config, folder)
    load_into(model, cast(state, dtype), folder)
    return model.eval()


def predict(
    transformer: nn.Module, latents: Tensor, timesteps: Tensor, embeds: Tensor, pooled: Tensor
) -> Tensor:
    """The transformer's output (B, C, h, w) for latents (B, C', h, w), at timesteps (B,).

    `embeds` (1, tokens, width) and `pooled` (1, width) are the prompt of all of them.
    """
    count = len(latents)
    return transformer(
        hidden_states=latents,
        timestep=timesteps,
        encoder_hidden_states=embeds.expand(count, -1, -1),
        pooled_projections=pooled.expand(count, -1),
        return_dict=False,
    )[0]


def shifted(shares: Tensor, shift: float) -> Tensor:
    """Shares of noise in [0, 1], shifted towards noise as for large pictures (Esser et al.)."""
    return shift * shares / (1 + (shift - 1) * shares)


def denoise(
    transformer: nn.Module,
    photos: Tensor,
    noise: Tensor,
    embeds: Tensor,
    pooled: Tensor,
    *,
    steps: int,
    shift: float,
) -> Tensor:
    """Latents of masks from noise, by Euler's method along the flow from noise to mask.

    Args:
        transformer: gives the velocity, noise - mask, at 1000 times the share of noise, for the
            photo's latents in front of the noisy latents of its mask.
        photos: latents (B, C, h, w), in the dtype that the transformer takes.
        noise: (B, C, h, w) float32, standard normal.
        embeds: the prompt, (1, tokens, width).
        pooled: the prompt, (1, width).
        steps: how many.
        shift: how far the shares of noise, evenly spaced, are shifted towards noise.

    Returns:
        (B, C, h, w) float32.
    """
    latents = noise
    for share, lower in pairwise(shifted(torch.linspace(1, 0, steps + 1), shift).tolist()):
        timesteps = torch.full((len(photos),), 1000 * share, device=photos.device)
        seen = torch.cat([photos, latents.to(photos.dtype)], dim=1)
        velocity = predict(transformer, seen, timesteps, embeds, pooled).float()
        latents = latents + (lower - share) * velocity
    return latents


class Constant(nn.Module):
    """Gives one stored row for every row it is asked for."""

    def __init__(self, row: Tensor) -> None:
        super().__init__()
        self.row: Tensor
        self.register_buffer("row", row)

    def forward(self, given: Tensor, *_: Tensor) -> Tensor:
        return self.row.expand(len(given), -1)


@torch.no_grad()
def fold_modulation(
    transformer: SD3Transformer2DModel, timestep: float, pooled: Tensor
) -> SD3Transformer2DModel:
    """Put constants in place of all that depends on timestep and pooled prompt alone.

    These are the timestep's and the prompt's embedding, and the linear layers that make shifts,
    scales and gates of it: a third of the parameters of Stable Diffusion 3.5 medium. What the
    folded transformer predicts is what the whole one predicts; it is not to be trained or saved.

    Args:
        transformer: is changed, and returned.
        timestep: the one that every prediction is at.
        pooled: the prompt that every prediction has, (1, width).
    """
    module: Any = transformer
    timesteps = torch.full((1,), timestep, device=pooled.device)
    embedding: Tensor = module.time_text_embed(timesteps, pooled)
    # Only its rows are asked for from here on.
    module.time_text_embed = Constant(embedding[:, :0])
    for norm in transformer.modules():
        if isinstance(norm, AdaLayerNormZero | SD35AdaLayerNormZeroX | AdaLayerNormContinuous):
            norm.add_module("linear", Constant(norm.linear(norm.silu(embedding))))
    return transformer
