"""How networks use a device that is too small to hold them whole.

`offload` keeps a UNet's weights in main memory, and on the device only the part that computes and
the one after it, which is copied meanwhile. It is diffusers' group offloading. Results are those
of the whole network.

`quantize` packs the UNet's linear layers to 4 bits, and `vae_tiling` lets the VAE see a picture in
tiles, one picture at a time. Both change results.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.models import UNetFrameConditionModel

Offload = Literal["none", "blocks", "layers"]
"""What of a UNet moves to the device at once: all of it, and stays; a transformer or residual
block; a single layer."""

Quantize = Literal["none", "nf4"]
"""Type of the weights of a UNet's linear layers: the others', or 4-bit NormalFloat."""

TILE = 512
"""Side in pixels of the VAE's tiles; neighbours overlap by a quarter of it."""


@attrs.frozen(kw_only=True)
class MemoryMode:
    """What is done to need less memory on the device; the modes combine."""

    offload: Offload = "none"
    quantize: Quantize = "none"
    vae_tiling: bool = False

    def changes(self) -> dict[str, Any]:
        """The modes that change results beyond rounding, empty if none does."""
        return {
            **({"quantize": self.quantize} if self.quantize != "none" else {}),
            **({"vae_tiling": TILE} if self.vae_tiling else {}),
        }

    def flags(self) -> list[str]:
        """The modes as the command line takes them."""
        return [
            *([f"--quantize={self.quantize}"] if self.quantize != "none" else []),
            *([f"--offload={self.offload}"] if self.offload != "none" else []),
            *(["--vae_tiling"] if self.vae_tiling else []),
        ]

    def place(
        self,
        unet: UNetFrameConditionModel,
        vae: AutoencoderKL,
        device: torch.device | str,
        dtype: torch.dtype,
        later: torch.device | None = None,
    ) -> None:
        """Bring networks from main memory to `device`, in their type.

        `later` is where they will compute, if they only wait on `device`.
        """
        compute = later or torch.device(device)
        nn.Module.to(unet, "cpu", dtype)
        if self.quantize == "nf4":
            from seethrough.models.quantized import pack_linears  # bitsandbytes is slow to import

            pack_linears(unet, compute)
        if self.offload == "none":
            nn.Module.to(unet, device)
        else:
            offload(unet, compute, self.offload)
        nn.Module.to(vae, device, dtype)
        if self.vae_tiling:
            tile(vae)


WHOLE = MemoryMode()
"""All on the device, as it is."""


def offload(unet: UNetFrameConditionModel, device: torch.device, how: Offload) -> None:
    """Keep a UNet's weights in main memory; each part comes to the device while it computes.

    On a GPU they lie in pinned memory, and a stream of its own copies the next part meanwhile.
    A part leaves when its computation is over, for which the host waits: so never more than two
    are there.
    """
    streams = device.type != "cpu"
    if streams:
        # It warns of layers that a first pass doesn't run: the other tag groups' embeddings. They
        # are not copied ahead, but when they are called.
        logging.getLogger(apply_group_offloading.__module__).setLevel(logging.ERROR)
    apply_group_offloading(
        unet,
        onload_device=device,
        offload_type="leaf_level" if how == "layers" else "block_level",
        num_blocks_per_group=1,
        use_stream=streams,
        block_modules=_containers(unet),
    )
    for layer in unet.modules():
        if hasattr(getattr(layer, "weight", None), "quant_state"):
            layer.register_forward_pre_hook(_bring_scales)


def is_offloaded(module: nn.Module) -> bool:
    """Whether the module's parts come and go by themselves, so that it can't be moved."""
    return any(hasattr(part, "_diffusers_hook") for part in module.modules())


def offloaded_blocks(unet: UNetFrameConditionModel) -> Iterator[nn.Module]:
    """The parts that `--offload=blocks` brings one after the other; all else is small and stays."""
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        for parts in block.children():
            assert isinstance(parts, nn.ModuleList)
            yield from parts
    for embeddings in (unet.group_embeds, unet.group_embeds2):
        yield from embeddings or []


def tile(vae: AutoencoderKL, side: int = TILE) -> None:
    """Let a VAE code one picture at a time, and in tiles where it is larger than `side` px.

    Tiles are blended where they overlap. Normalisation and attention see a tile, not the picture.
    """
    vae.enable_slicing()
    vae.enable_tiling()
    vae.tile_sample_min_size = side
    vae.tile_latent_min_size = side // 2 ** (len(vae.config["block_out_channels"]) - 1)


def _containers(unet: UNetFrameConditionModel) -> list[str]:
    """Names of what isn't a part but holds parts, in diffusers' terms `block_modules`."""
    indices = range(max(len(unet.down_blocks), len(unet.up_blocks)))
    embeddings = ["group_embeds", "group_embeds2"]
    return ["down_blocks", "mid_block", "up_blocks", *embeddings, *map(str, indices)]


def _bring_scales(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    """Offloading moves a packed weight without its scales."""
    layer.weight.quant_state.to(inputs[0].device)
