"""Low-rank updates of a diffusers model's linear layers (LoRA; Hu et al., 2021), by peft."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from seethrough.errors import InputError
from seethrough.models.checkpoints import empty_model, load_into

ADAPTER = "default"
"""peft's name of the updates."""

Model = TypeVar("Model", bound=ModelMixin)


def add_updates(
    model: Model, *, rank: int, alpha: float, targets: Sequence[str], seed: int
) -> Model:
    """Add updates to a model's layers, in place; they begin as no change.

    Args:
        model: is changed, and returned.
        rank: of each update.
        alpha: an update is scaled by alpha / rank.
        targets: ends of the names of the linear layers that are updated.
        seed: of the new weights.

    Raises:
        InputError: when no layer has one of the names.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(targets),
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model.add_adapter(config, adapter_name=ADAPTER)  # pyright: ignore[reportCallIssue]
        except ValueError as error:
            raise InputError(
                f"lora.targets: {type(model).__name__} has no layer named "
                f"{' or '.join(targets)} ({error})"
            ) from error
    return model


def trained_updates(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the updates, two matrices a layer."""
    return [value for name, value in model.named_parameters() if ".lora_" in name]


def save_updates(model: nn.Module, folder: Path) -> None:
    """Write the updates alone, with their rank and scale in the file's header.

    diffusers' `load_lora_adapter(folder, prefix=None, use_safetensors=True)` reads them.
    """
    model.save_lora_adapter(folder, adapter_name=ADAPTER)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def merged(model: Model) -> Model:
    """A copy on the CPU, without updates, whose weights have them added; the model stays."""
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if ".lora_" not in key:
            state[key.replace(".base_layer.", ".")] = value.detach().cpu()
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            linear: Any = layer
            delta: Tensor = linear.get_delta_weight(ADAPTER)
            key = f"{name}.weight"
            state[key] = state[key] + delta.cpu().to(state[key])
    config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}
    copy = empty_model(type(model), config, "merged")
    load_into(copy, state, "merged")
    return copy.eval()
