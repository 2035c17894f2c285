"""Weights of Depth Anything V2, and of its adapter, from disk.

Read are folders that we wrote (`config.json` and safetensors with the published keys), folders of
transformers (`depth-anything/Depth-Anything-V2-*-hf` on the hub), and the published files
`depth_anything_v2_vit*.pth`, or such a state dict as safetensors.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seethrough.errors import InputError
from seethrough.models.checkpoints import (
    empty_model,
    load_into,
    load_model,
    read_config,
    read_state_dict,
)
from seethrough.models.depth_anything import ENCODERS, DepthAnythingV2
from seethrough.models.depth_anything_adapter import ExtendDepthAnythingV2, with_adapter
from seethrough.models.torch_files import TORCH_SUFFIXES, read_torch_file

AnyDepthAnything = DepthAnythingV2 | ExtendDepthAnythingV2

_SAVED = {cls.__name__: cls for cls in (DepthAnythingV2, ExtendDepthAnythingV2)}

_ADAPTER = {"backbone_ori.": "pretrained.", "head_ori.": "depth_head."}
"""How names of the adapted network's parts begin, and those of the plain one's."""

_RENAMED = (
    (r"^backbone\.embeddings\.position_embeddings$", "pretrained.pos_embed"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "pretrained.patch_embed.proj."),
    (r"^backbone\.embeddings\.", "pretrained."),
    (r"^backbone\.layernorm\.", "pretrained.norm."),
    (r"^backbone\.encoder\.layer\.", "pretrained.blocks."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(?:attention\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(?:attention\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(?:attention\.value|v_proj)\.", ".attn.v."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"\.residual_layer([12])\.convolution([12])\.", r".resConfUnit\1.conv\2."),
    (r"^(neck\.fusion_stage\.layers\.\d)\.projection\.", r"\1.out_conv."),
    (r"^head\.conv1\.", "depth_head.scratch.output_conv1."),
    (r"^head\.conv2\.", "depth_head.scratch.output_conv2.0."),
    (r"^head\.conv3\.", "depth_head.scratch.output_conv2.2."),
)
"""Names of transformers, and the published ones, but for what is counted in another order."""


def load_depth_anything(path: str | Path) -> DepthAnythingV2:
    """The plain network, in eval mode, on the CPU, float32; of an adapted one, without adapter.

    Raises:
        InputError: when files are missing or damaged, or are of no such network.
    """
    config, state = _read(Path(path))
    model = empty_model(DepthAnythingV2, config, path)
    load_into(model, state, path)
    return model.eval()


def load_adapter(
    path: str | Path, control_channels: int, control_widths: Sequence[int]
) -> ExtendDepthAnythingV2:
    """The network with an adapter: a saved one, or a new one around a plain network.

    Args:
        path: of either kind.
        control_channels: of the control; a saved adapter's have to be as many.
        control_widths: of a new adapter; its weights follow from torch's generator.

    Raises:
        InputError: as `load_depth_anything`, or when a saved adapter takes another control.
    """
    path = Path(path)
    if _class_name(path) == ExtendDepthAnythingV2.__name__:
        model = load_model(ExtendDepthAnythingV2, path, torch.float32)
        if model.control_channels != control_channels:
            raise InputError(
                f"{path}: this adapter takes a control of {model.control_channels} channels, but "
                f"there are {control_channels}; give an adapter that was trained here, or a plain "
                "network"
            )
        return model
    return with_adapter(load_depth_anything(path), control_channels, control_widths).eval()


def load_either(path: str | Path) -> AnyDepthAnything:
    """What `save_pretrained` of either network wrote, in eval mode, on the CPU, float32.

    Raises:
        InputError: when files are missing or damaged, or are of no such network.
    """
    name = _class_name(Path(path))
    if name not in _SAVED:
        raise InputError(
            f"{path}: holds {name or 'no saved model'}, not one of {', '.join(_SAVED)}"
        )
    return load_model(_SAVED[name], path, torch.float32)


def _class_name(path: Path) -> str | None:
    """The class that a folder's config names; None for a file, or a folder without config."""
    return read_config(path).get("_class_name") if (path / "config.json").is_file() else None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The plain network's arguments, and its weights by the published keys, float32."""
    name = _class_name(path)
    if name in _SAVED:
        found = read_config(path)
        config = {key: found[key] for key in ("encoder", "features", "out_channels")}
        state = read_state_dict(path)
        if name == ExtendDepthAnythingV2.__name__:
            state = _without_adapter(state)
    else:
        state = _published_state(path)
        config = _sizes(state, path)
    return config, {key: value.float() for key, value in state.items()}


def _published_state(path: Path) -> dict[str, Tensor]:
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(f for f in path.iterdir() if f.suffix in (*TORCH_SUFFIXES, ".safetensors"))
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            raise InputError(f"{path}: one file of weights is expected, there are: {names}")
        path = files[0]
    if path.suffix in TORCH_SUFFIXES:
        return read_torch_file(path)
    if path.is_dir():
        kind = read_config(path).get("depth_estimation_type", "relative")
        if kind != "relative":
            raise InputError(
                f"{path}: tells {kind} depth, whose head ends otherwise; give a network of "
                "relative depth"
            )
        return from_transformers(read_state_dict(path))
    return read_state_dict(path)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' `DepthAnythingForDepthEstimation` by the published keys."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in _RENAMED:
            key = re.sub(pattern, name, key)
        # Counted from 0 in place of 1, and from the coarsest in place of the finest.
        key = re.sub(
            r"^neck\.convs\.(\d)\.",
            lambda found: f"depth_head.scratch.layer{int(found[1]) + 1}_rn.",
            key,
        )
        key = re.sub(
            r"^neck\.fusion_stage\.layers\.(\d)\.",
            lambda found: f"depth_head.scratch.refinenet{4 - int(found[1])}.",
            key,
        )
        renamed[key] = value
    joined: dict[str, Tensor] = {}
    for key, value in renamed.items():
        layer, _, leaf = key.rpartition(".")
        if layer.endswith(".attn.q"):
            parts = [renamed[f"{layer[:-1]}{part}.{leaf}"] for part in "qkv"]
            joined[f"{layer[:-1]}qkv.{leaf}"] = torch.cat(parts)
        elif not layer.endswith((".attn.k", ".attn.v")):
            joined[key] = value
    return joined


def _without_adapter(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        plain + key.removeprefix(own): value
        for key, value in state.items()
        for own, plain in _ADAPTER.items()
        if key.startswith(own)
    }


def _sizes(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The arguments of the published network that has these weights."""
    encoders = {encoder.width: name for name, encoder in ENCODERS.items()}
    try:
        width = state["pretrained.cls_token"].shape[-1]
        features = state["depth_head.scratch.layer1_rn.weight"].shape[0]
        out_channels = [state[f"depth_head.projects.{i}.weight"].shape[0] for i in range(4)]
    except KeyError as error:
        raise InputError(
            f"{path}: lacks {error}, so these are no weights of Depth Anything V2"
        ) from error
    if width not in encoders:
        raise InputError(
            f"{path}: the backbone is {width} wide, the published ones are "
            f"{', '.join(map(str, encoders))}; its other sizes can't be told"
        )
    return {"encoder": encoders[width], "features": features, "out_channels": out_channels}
