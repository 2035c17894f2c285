"""UNets to start from, with inputs for condition latents, and with LayerDiffuse's offsets."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models.checkpoints import (
    cast,
    check_shape,
    empty_model,
    load_into,
    read_config,
    read_state_dict,
)

UNet = TypeVar("UNet", bound=UNet2DConditionModel)


def extend_input_channels(weight: Tensor, in_channels: int, *, in_front: bool = False) -> Tensor:
    """Add zero input channels to a convolution's weight (out, in, k, k), behind or in front.

    The convolution gives the same output as before, whatever the new channels hold.

    Raises:
        ValueError: when the weight has more than `in_channels` already.
    """
    out_channels, present, *kernel = weight.shape
    if present > in_channels:
        raise ValueError(f"the weight has {present} input channels, more than {in_channels}")
    new = weight.new_zeros(out_channels, in_channels - present, *kernel)
    return torch.cat([new, weight] if in_front else [weight, new], dim=1)


def merge_offsets(
    state: dict[str, Tensor], offsets: Mapping[str, Tensor], source: str | Path
) -> dict[str, Tensor]:
    """Add weight offsets, keyed like the state dict, in float32; the dtypes stay.

    Raises:
        InputError: when an offset has no weight of its name and shape.
    """
    merged = dict(state)
    for key, offset in offsets.items():
        if key not in state:
            raise InputError(f"{source}: offset {key!r} is for no weight of this UNet")
        weight = state[key]
        check_shape(key, offset, tuple(weight.shape), "UNet", source)
        merged[key] = (weight.float() + offset.float()).to(weight.dtype)
    return merged


def load_unet(
    unet_class: type[UNet],
    folder: str | Path,
    *,
    in_channels: int | None = None,
    in_front: bool = False,
    offsets: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> UNet:
    """A UNet from its folder, on the CPU, ready for condition latents.

    Args:
        unet_class: UNet2DConditionModel, or UNetFrameConditionModel.
        folder: `config.json` and weights, whole or sharded.
        in_channels: what to extend the input to, with zero weights; None keeps the config's.
        in_front: put the new channels in front of the others, not behind.
        offsets: a safetensors file of weight offsets to add first, such as LayerDiffuse's
            `ld_diffusers_sdxl_attn.safetensors`.
        dtype: what to cast the weights to; None keeps the file's.

    Raises:
        InputError: when files are missing or do not fit.
    """
    config = read_config(folder)
    state = read_state_dict(folder)
    if offsets is not None:
        state = merge_offsets(state, read_state_dict(offsets), offsets)
    if in_channels is not None and "conv_in.weight" in state:
        weight = state["conv_in.weight"]
        if weight.shape[1] > in_channels:
            raise InputError(
                f"{folder}: this UNet takes {weight.shape[1]} input channels, more than the "
                f"{in_channels} asked for"
            )
        state["conv_in.weight"] = extend_input_channels(weight, in_channels, in_front=in_front)
        config["in_channels"] = in_channels
    unet = empty_model(unet_class, config, folder)
    load_into(unet, cast(state, dtype), folder)
    return unet
