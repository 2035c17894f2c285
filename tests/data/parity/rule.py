"""How the parity vectors were made: every weight and every input follows from its name.

The vectors hold outputs and gradients of the public reference modules at small sizes, computed in
float64, on weights and inputs that anyone can make again from this rule, so no weights are stored.
Metadata key "spec" of a file is a JSON object: module kind, config, how each input is made, the
state-dict keys with their shapes, and for some the gradient norms of mean(output ** 2).
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn


def normal(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 values, a function of `name` and `shape` alone."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(random.standard_normal(tuple(shape), dtype=np.float32))


def weight(key: str, shape: Sequence[int]) -> Tensor:
    """The float32 value of a state-dict entry: small biases, scales near 1, others by fan-in."""
    values = normal(key, shape).numpy()
    if key.rsplit(".", 1)[-1] == "bias":
        values = 0.05 * values
    elif len(shape) == 1:
        values = 1 + 0.05 * values
    else:
        values = values / np.sqrt(int(np.prod(shape[1:])))
    return torch.from_numpy(values.astype(np.float32))


def fill(module: nn.Module) -> None:
    """Give a module the rule's weights, through its own state-dict keys."""
    state = module.state_dict()
    module.load_state_dict({key: weight(key, value.shape) for key, value in state.items()})


def read_vector(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The spec and the tensors of a vector beside this file."""
    with safe_open(Path(__file__).with_name(f"{name}.safetensors"), "pt") as file:
        spec = json.loads(file.metadata()["spec"])
        return spec, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
