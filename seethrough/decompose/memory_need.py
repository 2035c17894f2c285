"""What the networks of a decomposition take on a device, from their configs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from seethrough.data.tags import TAGS_V2
from seethrough.decompose.models import Choice
from seethrough.inference.flow import unet_flow
from seethrough.inference.memory import MemoryMode, Offload, offloaded_blocks, tile
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import empty_model, open_base, read_config, unet_folder
from seethrough.models.live_bytes import FusedAttention, LiveBytes
from seethrough.models.quantized import is_packable, packed_bytes
from seethrough.models.text_table import ENCODED_AT_ONCE

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


@attrs.frozen
class Coding:
    """Bytes of activations of the VAE, and of the pixel decoder behind it."""

    whole: int
    tiled: int


@attrs.frozen
class Pass:
    """A stretch of a UNet's pass in which one layer computes."""

    layer: str
    block: str | None
    """The layer's block, as `offloaded_blocks` has them; None for those that stay."""
    activations: int
    """The most bytes of activations that live at once."""


@attrs.frozen(kw_only=True)
class Need:
    """Bytes that a model of layers or of depth needs."""

    title: str
    parameters: int
    stored_packed: bool
    """Whether the UNet's files hold linear layers of 4 bits, so that it is never larger."""
    sizes: Mapping[str, int]
    """Weights of each layer of the UNet, none of 4 bits."""
    packed_sizes: Mapping[str, int]
    """The same with linear layers of 4 bits, without their scales."""
    scales: int
    """Scales of the linear layers of 4 bits: they stay on the device."""
    unpacked: int
    """The largest linear layer's weights, unpacked while it computes."""
    passes: tuple[Pass, ...]
    others: int
    """Weights of all other networks, and embeddings."""
    text: int
    """Weights and activations of the text encoder that takes most; 0 if it isn't on the device."""
    encode: Coding
    decode: Coding

    @property
    def unet(self) -> int:
        """Weights of the UNet, as it is."""
        return self.packed if self.stored_packed else sum(self.sizes.values())

    @property
    def packed(self) -> int:
        """Weights of the UNet with linear layers of 4 bits."""
        return sum(self.packed_sizes.values()) + self.scales

    @property
    def denoise(self) -> int:
        """Activations of the UNet."""
        return max(stretch.activations for stretch in self.passes)

    def unet_bytes(self, mode: MemoryMode) -> int:
        """Weights of the UNet in a mode."""
        return self.packed if mode.quantize == "nf4" else self.unet

    def denoise_by(self, offload: Offload, packed: bool) -> int:
        """Activations, and weights of the UNet that are on the device at the same time.

        Offloaded, that are the part that computes and the next. Parts that stay, such as scales,
        count too.
        """
        packed = packed or self.stored_packed
        sizes = self.packed_sizes if packed else self.sizes
        more = self.scales + self.unpacked if packed else 0
        if offload == "none":
            return sum(sizes.values()) + more + self.denoise
        if offload == "layers":
            parts = [(sizes[stretch.layer], stretch.activations) for stretch in self.passes]
        else:
            blocks: dict[str | None, int] = {None: 0}
            members = {stretch.layer: stretch.block for stretch in self.passes}
            for layer, size in sizes.items():
                block = members.get(layer)
                blocks[block] = blocks.get(block, 0) + size
            more += blocks.pop(None)
            parts = []
            last: str | None = ""
            for stretch in self.passes:
                if stretch.block == last:
                    size, most = parts.pop()
                    parts.append((size, max(most, stretch.activations)))
                else:
                    parts.append((blocks.get(stretch.block or "", 0), stretch.activations))
                last = stretch.block
        following = [*(size for size, _ in parts[1:]), 0]
        return more + max(
            size + after + most for (size, most), after in zip(parts, following, strict=True)
        )

    def peak(self, mode: MemoryMode) -> int:
        """The most bytes on the device in a mode."""
        stays = self.others + (self.unet_bytes(mode) if mode.offload == "none" else 0)
        coding = max(
            one.tiled if mode.vae_tiling else one.whole for one in (self.encode, self.decode)
        )
        denoise = self.others + self.denoise_by(mode.offload, mode.quantize == "nf4")
        return max(self.text, stays + coding, denoise)


def layers_need(choice: Choice, dtype: torch.dtype) -> Need:
    """What the model of layers needs: the pass with most frames, and a page at a time.

    Raises:
        InputError: when a config is missing, or fits no decomposition.
    """
    files, options = choice.layers, choice.options
    folder = unet_folder(files.unet)
    unet, quantization = _unet(folder, dtype)
    groups = unet_flow(unet, str(folder / "config.json")).groups
    frames = max(map(len, groups))
    group = [len(tags) for tags in groups].index(frames)
    vae = _vae(files.base, dtype)
    trans_vae = _transparent_vae(files.transparent_vae or files.base, dtype)
    side, config = options.resolution, unet.config
    latent = side // trans_vae.latent_scale
    channels: int = config["out_channels"]
    pooled: int = (
        config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    )
    encoders = [read_config(open_base(files.base).require(name)) for name in TEXT_ENCODERS]
    tokens: int = encoders[0]["max_position_embeddings"]
    captions = sum(map(len, groups))

    def denoise() -> None:
        unet(
            _empty(dtype, 1, frames, 2 * channels, latent, latent),
            _empty(torch.int64),
            _empty(dtype, frames, tokens, config["cross_attention_dim"]),
            added_cond_kwargs={
                "text_embeds": _empty(dtype, frames, pooled),
                "time_ids": _empty(torch.float32, frames, 6),
            },
            group_index=group if config["group_embedding"] else None,
            return_dict=False,
        )

    def encode() -> None:
        trans_vae.encode(vae, _empty(torch.float32, 1, 4, side, side))

    def decode() -> None:
        count = min(options.decode_batch, frames)
        latents = _empty(torch.float32, count, channels, latent, latent)
        mask = _empty(torch.float32, 1, 1, side, side)
        trans_vae.decode(vae, latents, mask, options.decode_passes)

    table = 4 * captions * (tokens * config["cross_attention_dim"] + pooled)
    return _need(
        f"layers: {frames} frames of {side} px, {_name(dtype)}",
        unet,
        quantization,
        denoise,
        vae,
        encode,
        decode,
        others=weight_bytes(vae) + weight_bytes(trans_vae) + table + 4 * 4 * side * side,
        text=max(_text_bytes(config, min(captions, ENCODED_AT_ONCE)) for config in encoders),
    )


def depth_need(choice: Choice, dtype: torch.dtype) -> Need:
    """What the model of depth needs; its text encoder is never on the device.

    Raises:
        InputError: when a config is missing or makes no such network.
    """
    assert choice.depth is not None
    files, options = choice.depth, choice.depth_options
    unet, quantization = _unet(unet_folder(files.unet), dtype)
    vae = _vae(files.base, dtype)
    # A page's own size isn't known yet: it is taken to be that of the canvas.
    side = options.resolution or choice.options.resolution
    channels: int = unet.config["out_channels"]
    latent = side // 2 ** (len(vae.config["block_out_channels"]) - 1)
    frames = len(TAGS_V2) + 1
    width: int = unet.config["cross_attention_dim"]

    def denoise() -> None:
        condition = _empty(dtype, 1, frames, 2 * channels, latent, latent)
        noisy = _empty(torch.float32, 1, frames, channels, latent, latent)
        sample = torch.cat([condition, noisy.to(dtype)], dim=2)
        unet(sample, 1, _empty(dtype, frames, 2, width), return_dict=False)

    def encode() -> None:
        argb = _empty(torch.float32, options.vae_batch, 4, side, side)
        vae.encode((argb[:, 1:] * 2 - 1).to(dtype))

    def decode() -> None:
        vae.decode(_empty(dtype, options.vae_batch, channels, latent, latent))  # pyright: ignore[reportArgumentType]

    return _need(
        f"depth: {frames} frames of {side} px, {_name(dtype)}",
        unet,
        quantization,
        denoise,
        vae,
        encode,
        decode,
        others=weight_bytes(vae),
        text=0,
    )


def _need(
    title: str,
    unet: UNetFrameConditionModel,
    quantization: Mapping[str, Any] | None,
    denoise: Callable[[], object],
    vae: AutoencoderKL,
    encode: Callable[[], object],
    decode: Callable[[], object],
    *,
    others: int,
    text: int,
) -> Need:
    skipped = (quantization or {}).get("llm_int8_skip_modules") or []
    sizes, packed, scales = layer_bytes(unet, skipped)
    linears = [layer.weight.nbytes for layer in unet.modules() if is_packable(layer)]
    whole = activation_bytes(encode), activation_bytes(decode)
    tile(vae)
    tiled = activation_bytes(encode), activation_bytes(decode)
    return Need(
        title=title,
        parameters=sum(value.numel() for value in unet.parameters()),
        stored_packed=quantization is not None,
        sizes=sizes,
        packed_sizes=packed,
        scales=scales,
        unpacked=max(linears, default=0),
        passes=trace(unet, denoise),
        others=others,
        text=text,
        encode=Coding(whole[0], tiled[0]),
        decode=Coding(whole[1], tiled[1]),
    )


def activation_bytes(compute: Callable[[], object]) -> int:
    """The most bytes that live at once of what `compute` makes on the meta device."""
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        compute()
    return live.peak


def trace(unet: UNetFrameConditionModel, denoise: Callable[[], object]) -> tuple[Pass, ...]:
    """The stretches of a UNet's pass on the meta device, in their order."""
    blocks = {id(block) for block in offloaded_blocks(unet)}
    owner: dict[str, str | None] = {}
    for name, module in unet.named_modules():
        parent = name.rpartition(".")[0]
        owner[name] = name if id(module) in blocks else owner.get(parent) if name else None
    marks: list[tuple[str, int]] = []
    handles: list[Any] = []
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:

        def begin(name: str) -> None:
            if marks:
                marks[-1] = (marks[-1][0], live.peak)
            live.peak = live.now
            marks.append((name, 0))

        for name, module in unet.named_modules():
            if any(True for _ in module.parameters(recurse=False)):
                hook = _hook(begin, name)
                handles.append(module.register_forward_pre_hook(hook))
        denoise()
        marks[-1] = (marks[-1][0], live.peak)
    for handle in handles:
        handle.remove()
    return tuple(Pass(name, owner[name], most) for name, most in marks)


def _hook(begin: Callable[[str], None], name: str) -> Callable[..., None]:
    return lambda *_: begin(name)


def layer_bytes(
    model: nn.Module, skipped: Iterable[str] = ()
) -> tuple[dict[str, int], dict[str, int], int]:
    """Bytes of each layer's own weights, the same where linear layers have 4 bits, their scales.

    `skipped` are names of parts whose linear layers stay.
    """
    sizes: dict[str, int] = {}
    packed: dict[str, int] = {}
    scales = 0
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if not own:
            continue
        sizes[name] = packed[name] = sum(value.nbytes for value in own)
        if is_packable(module) and not set(skipped) & set(name.split(".")):
            weight, scale = packed_bytes(module)
            packed[name] += weight - module.weight.nbytes
            scales += scale
    return sizes, packed, scales


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights and buffers."""
    return sum(value.nbytes for value in [*model.parameters(), *model.buffers()])


def _text_bytes(config: Mapping[str, Any], captions: int) -> int:
    """A CLIP text encoder in float32, and its hidden states, which it keeps of all layers."""
    width, inner, layers = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    tokens = int(config["max_position_embeddings"])
    a_layer = 4 * width * (width + 1) + 2 * width * inner + width + inner + 4 * width
    embeddings = (int(config["vocab_size"]) + tokens) * width
    projection = width * int(config.get("projection_dim") or width)
    weights = layers * a_layer + embeddings + 2 * width + projection
    # Within a layer two tensors of the inner width live: before and after its activation.
    states = captions * tokens * ((layers + 1) * width + 2 * inner)
    return 4 * (weights + states)


def _unet(
    folder: Path, dtype: torch.dtype
) -> tuple[UNetFrameConditionModel, dict[str, Any] | None]:
    """A UNet on the meta device, and how its files pack linear layers, if they do."""
    config = read_config(folder)
    quantization = config.pop("quantization_config", None)
    unet = empty_model(UNetFrameConditionModel, config, folder).eval()
    nn.Module.to(unet, dtype)
    return unet, quantization


def _vae(base: Path, dtype: torch.dtype) -> AutoencoderKL:
    folder = open_base(base).require("vae")
    vae = empty_model(AutoencoderKL, read_config(folder), folder).eval()
    nn.Module.to(vae, dtype)
    return vae


def _transparent_vae(folder: Path, dtype: torch.dtype) -> TransparentVAE:
    """LayerDiffuse's own two files have no config: their network is the default one."""
    saved = folder / "trans_vae" if (folder / "trans_vae").is_dir() else folder
    config = read_config(saved) if (saved / "config.json").is_file() else {}
    trans_vae = empty_model(TransparentVAE, config, saved).eval()
    nn.Module.to(trans_vae, dtype)
    return trans_vae


def _empty(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
