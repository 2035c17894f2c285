"""Writes what `data/zeroN` and `data/expectedN.safetensors` hold, on two processes:

DS_ACCELERATOR=cpu ACCELERATE_USE_DEEPSPEED=true torchrun --nproc-per-node=2 \
    -m tests.checkpoint.zero N FOLDER
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors.torch import save_file
from torch import Tensor, nn


class Network(nn.Module):
    """Two trained layers of odd sizes, a frozen one, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(5, 1, bias=False)
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3) -> (N, 1)."""
        return self.second(self.first(x).relu()) + 0 * self.frozen(x[:, :2]).sum()


def write(zero_stage: int, folder: Path) -> None:
    """Three steps, a checkpoint as accelerate writes it, and what DeepSpeed reads of it."""
    torch.manual_seed(0)
    network = Network()
    zero = {"stage": zero_stage, "stage3_param_persistence_threshold": 0}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_optimization": zero,
        "bf16": {"enabled": True},
        "zero_allow_untested_optimizer": True,
    }
    accelerator = Accelerator(
        mixed_precision="bf16",
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False),
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")],
    )
    groups = [{"params": list(part.parameters())} for part in (network.first, network.second)]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    engine, optimizer = accelerator.prepare(network, optimizer)
    generator = torch.Generator().manual_seed(accelerator.process_index)
    for _ in range(3):
        x = torch.randn(2, 3, generator=generator).bfloat16()
        accelerator.backward(engine(x).float().square().mean())
        optimizer.step()
        optimizer.zero_grad()
    whole = folder / "whole"
    accelerator.save_state(str(whole))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        state: Any = get_fp32_state_dict_from_zero_checkpoint(str(whole))
        contiguous = {name: value.contiguous().clone() for name, value in state.items()}
        save_file(contiguous, folder / f"expected{zero_stage}.safetensors")
        kept = folder / f"zero{zero_stage}"
        shutil.copytree(whole / "pytorch_model", kept / "pytorch_model")
        shutil.copy(whole / "latest", kept)
        shutil.rmtree(whole)


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
