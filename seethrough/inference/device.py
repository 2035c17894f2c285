"""Where networks that are used compute, and in what, as flags say it."""

import torch

from seethrough.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means; auto takes CUDA when there is a GPU.

    Raises:
        InputError: when there is none and CUDA is asked for.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("--device=cuda: PyTorch finds no CUDA device: take --device=auto or cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that `auto`, `bf16` or `fp32` means; auto takes bf16 on a GPU, fp32 on a CPU."""
    half = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32
