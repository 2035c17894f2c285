"""Numbers that are made on the host, on the device."""

import torch
from torch import Tensor


def on_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor without the host waiting for the device; as it is if it is there already.

    The host waits for copies to CUDA out of memory that isn't pinned.
    """
    if device.type == "cuda" and numbers.device.type == "cpu":
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)
