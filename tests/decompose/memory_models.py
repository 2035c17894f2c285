"""A UNet wide enough for weights of 4 bits, its pass, and what it takes in memory."""

from typing import Any

import torch
from torch import Tensor, nn

from seethrough.models import UNetFrameConditionModel
from tests.inference.small import small_unet

FRAMES = (3, 2)
"""Of its two tag groups."""


def wide_unet() -> UNetFrameConditionModel:
    """The same weights at every call; all but a few linear layers have sides of 64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = small_unet(
            group_embedding=True,
            group_embedding_num=FRAMES,
            tag_version="v3",
            block_out_channels=(64, 64),
            cross_attention_dim=64,
            addition_time_embed_dim=16,
            projection_class_embeddings_input_dim=96 + 64,
        )
    return unet.eval()


def run_unet(
    unet: UNetFrameConditionModel, group: int = 0, device: str = "cpu", side: int = 16
) -> Tensor:
    """One pass over all frames of a group; inputs by seed, of `side` latents."""
    frames = FRAMES[group]
    generator = torch.Generator().manual_seed(1)

    def values(*shape: int) -> Tensor:
        if device == "meta":
            return torch.empty(shape, device=device)
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        return unet(
            values(1, frames, 8, side, side),
            torch.zeros((), dtype=torch.int64, device=device),
            values(frames, 5, 64),
            added_cond_kwargs={"text_embeds": values(frames, 64), "time_ids": values(frames, 6)},
            group_index=group,
            return_dict=False,
        )[0]


def memory_bytes(model: nn.Module) -> int:
    """Bytes of the tensors that a network holds, with the scales of weights of 4 bits."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    for value in model.parameters():
        state: Any = getattr(value, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code]
    return sum(value.untyped_storage().nbytes() for value in tensors)
