"""Weights and folders from outside, in the hub's layout, read with errors that name what is wrong.

Only safetensors and JSON are read: nothing here unpickles.
"""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seethrough.errors import InputError

WEIGHT_NAMES = ("diffusion_pytorch_model", "model")
"""File stems of weights in the hub's layout: of diffusers and of transformers."""

RENAMED_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""diffusers' former names of an attention layer's parts, still found in VAE checkpoints."""

PACKED = ".weight.quant_state."
"""What the key of a weight of 4 bits has after its layer's name."""

Model = TypeVar("Model", bound=ModelMixin)


@attrs.frozen
class Base:
    """A folder in the hub's layout: one subfolder per part of a pipeline."""

    folder: Path

    def require(self, name: str) -> Path:
        """The subfolder `name`.

        Raises:
            InputError: when it is absent, with what is there.
        """
        subfolder = self.folder / name
        if not subfolder.is_dir():
            raise InputError(
                f"{self.folder}: this base has no subfolder {name!r}; it holds "
                f"{_listing(self.folder)}. Give a complete base in the hub's layout"
            )
        return subfolder


def open_base(folder: str | Path) -> Base:
    """Open a base checkpoint's folder.

    Raises:
        InputError: when there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a base checkpoint in the hub's layout")
    return Base(folder)


def unet_folder(folder: str | Path) -> Path:
    """The folder of a UNet: the subfolder `unet` of a folder in the hub's layout, or itself."""
    subfolder = Path(folder) / "unet"
    return subfolder if subfolder.is_dir() else Path(folder)


def vae_folder(folder: str | Path) -> Path:
    """The folder of an autoencoder: the subfolder `vae` of a folder in the hub's layout, or
    itself."""
    subfolder = Path(folder) / "vae"
    return subfolder if subfolder.is_dir() else Path(folder)


def weight_files(path: str | Path) -> list[Path]:
    """The safetensors files of a checkpoint: a file, a folder with one, or a sharded folder.

    Raises:
        InputError: when there is none, or a shard is missing.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder; a checkpoint is expected there")
    for name in WEIGHT_NAMES:
        index = path / f"{name}.safetensors.index.json"
        if index.is_file():
            return _shards(index)
        if (path / f"{name}.safetensors").is_file():
            return [path / f"{name}.safetensors"]
    raise InputError(
        f"{path}: no {WEIGHT_NAMES[0]}.safetensors, whole or sharded; the folder holds "
        f"{_listing(path)}"
    )


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint on the CPU, mapped from its files rather than copied.

    Raises:
        InputError: as `weight_files`, or when a file is damaged or no safetensors file.
    """
    state: dict[str, Tensor] = {}
    for file in weight_files(path):
        try:
            state.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    return state


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], source: str | Path, prefix: str = ""
) -> None:
    """Make `state` the module's weights.

    A module on the meta device takes the tensors themselves, any other copies their values and
    keeps its own device and dtype. Attention layers may have diffusers' names of before 2023.

    Args:
        module: the module.
        state: exactly the module's state-dict keys.
        source: the file or folder that error messages name.
        prefix: what the keys begin with in the source, for error messages.

    Raises:
        InputError: when keys are missing or unknown, or a shape differs.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    state = {_current_name(key, expected): value for key, value in state.items()}
    network = type(module).__name__
    for key, value in state.items():
        check_shape(key, value, expected.get(key, tuple(value.shape)), network, source, prefix)
    for problem, keys in (
        ("lacks", expected.keys() - state.keys()),
        ("has unknown", state.keys() - expected.keys()),
    ):
        if keys:
            raise InputError(
                f"{source}: the checkpoint {problem} tensors for this {network}: "
                f"{prefix + min(keys)!r}"
                + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
                + "; it was made with another config or is of another model"
            )
    on_meta = any(value.is_meta for value in module.state_dict().values())
    module.load_state_dict(state, strict=True, assign=on_meta)


def check_shape(
    key: str,
    value: Tensor,
    expected: tuple[int, ...],
    network: str,
    source: str | Path,
    prefix: str = "",
) -> None:
    """Raise InputError, naming both, when a checkpoint's tensor has another shape than expected."""
    if tuple(value.shape) != tuple(expected):
        raise InputError(
            f"{source}: {prefix + key!r} has shape {tuple(value.shape)}, but this {network} "
            f"needs {tuple(expected)}; the checkpoint was made with another config"
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a model's folder.

    Raises:
        InputError: when it is absent or not a JSON object.
    """
    return read_json(Path(folder) / "config.json")


def read_json(file: Path) -> dict[str, Any]:
    """A config in JSON.

    Raises:
        InputError: when it is absent or not a JSON object.
    """
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{file}: not found; a model's folder holds {file.name} beside its weights"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: holds {type(config).__name__}, a JSON object is expected")
    return config


def empty_model(model_class: type[Model], config: dict[str, Any], folder: str | Path) -> Model:
    """A diffusers model on the meta device, for `load_into`.

    Args:
        model_class: its class; the `_class_name` in the config is not asked.
        config: the content of its `config.json`.
        folder: the folder that error messages name.

    Raises:
        InputError: when the config makes no such model.
    """
    try:
        with init_empty_weights():
            return model_class.from_config(config)  # pyright: ignore[reportAttributeAccessIssue]
    except (TypeError, ValueError) as error:
        raise InputError(f"{Path(folder) / 'config.json'}: {error}") from error


def load_model(
    model_class: type[Model], folder: str | Path, dtype: torch.dtype | None = None
) -> Model:
    """A diffusers model from its folder, in eval mode, on the CPU.

    Args:
        model_class: its class.
        folder: `config.json` and weights, whole or sharded.
        dtype: what to cast the weights to; None keeps the file's, and weights of 4 bits stay so.

    Raises:
        InputError: when files are missing or damaged, or the weights do not fit the config.
    """
    config = read_config(folder)
    config.pop("quantization_config", None)  # which weights are packed, they tell themselves
    model = empty_model(model_class, config, folder)
    state = read_state_dict(folder)
    if any(PACKED in key for key in state):
        from seethrough.models.quantized import load_packed  # bitsandbytes takes long to import

        load_packed(model, state, dtype, folder)
    else:
        load_into(model, cast(state, dtype), folder)
    return model.eval()


def cast(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors in another dtype; None keeps each one's own."""
    return state if dtype is None else {key: value.to(dtype) for key, value in state.items()}


def _current_name(key: str, expected: Container[str]) -> str:
    layer, _, leaf = key.rpartition(".")
    layer, _, part = layer.rpartition(".")
    renamed = f"{layer}.{RENAMED_ATTENTION.get(part, part)}.{leaf}"
    return renamed if key not in expected and renamed in expected else key


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not a readable index of shards ({error!r})") from error
    files = [index.parent / name for name in sorted(names)]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: this shard is missing, though {index.name} names it")
    return files


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:20]) + (" ..." if len(names) > 20 else "") if names else "nothing"
