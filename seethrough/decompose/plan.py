"""`--plan`: the memory that each mode needs on a GPU, counted before anything is loaded.

Of the models only the configs are read. The networks are made on the meta device, where tensors
have no content, and go through their passes once: bytes of weights are theirs, and the most bytes
that live at once are a pass's activations. Not counted is what CUDA and its libraries take for
themselves: `RESERVE_GIB` is left to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import get_args

import torch

from seethrough.decompose.memory_need import Need, depth_need, layers_need
from seethrough.decompose.models import Choice, choose
from seethrough.decompose.settings import Command, Settings
from seethrough.engine.memory import GIB
from seethrough.inference.memory import MemoryMode, Offload, Quantize

RESERVE_GIB = 1.0
"""What CUDA's context, its libraries' workspaces and gaps between tensors may take: a guess, not
measured."""

MODES = tuple(
    MemoryMode(offload=offload, quantize=quantize, vae_tiling=vae_tiling)
    for quantize, offload, vae_tiling in product(
        get_args(Quantize), get_args(Offload), (False, True)
    )
)
"""All combinations; those that change no result come first."""


def plan_text(command: Command) -> str:
    """What `--plan` prints: the arithmetic, and a table of the modes.

    Raises:
        InputError: when a model isn't there, or its configs fit no decomposition.
    """
    choice = choose(command)
    dtype = torch.float32 if command.settings.precision == "fp32" else torch.bfloat16
    needs = [layers_need(choice, dtype)]
    if choice.depth is not None:
        needs.append(depth_need(choice, dtype))
    return "\n".join([*_arithmetic(choice, needs), "", *table(needs, _limit(command.settings))])


def _limit(settings: Settings) -> float | None:
    """Memory of the device in GiB; None if there is none to plan for."""
    if settings.device_memory_gib is not None:
        return settings.device_memory_gib
    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory / GIB


def _arithmetic(choice: Choice, needs: list[Need]) -> Iterator[str]:
    yield from (line for line in choice.account() if line.startswith("depth: no"))
    for need in needs:
        yield f"{need.title}, in GiB"
        yield f"  weights of the UNet: {_gib(need.unet)} ({need.parameters:,} parameters)"
        yield f"    of 4 bits: {_gib(need.packed)}; {_gib(need.unpacked)} to unpack a layer"
        yield f"  weights of the VAE and all else that stays: {_gib(need.others)}"
        yield f"  text encoders, before the others come: {_gib(need.text)}"
        yield (
            f"  activations: {_gib(need.encode.whole)} to encode ({_gib(need.encode.tiled)} in"
            f" tiles), {_gib(need.denoise)} to denoise, {_gib(need.decode.whole)} to decode"
            f" ({_gib(need.decode.tiled)} in tiles)"
        )
        yield (
            "  denoising with the weights that are there then:"
            f" {_gib(need.denoise_by('blocks', packed=False))} with --offload=blocks,"
            f" {_gib(need.denoise_by('layers', packed=False))} with --offload=layers"
        )
    yield "peak = weights that stay + the largest of encode, denoise and decode; or text encoders"
    yield (
        "main memory: weights that wait there, as the models of layers and of depth take turns;"
        " those of UNets that are offloaded are pinned"
    )


def table(needs: list[Need], limit: float | None) -> Iterator[str]:
    """A line for each mode, and which to take; `limit` is the device's memory in GiB, if known."""
    names = [need.title.partition(":")[0] for need in needs]
    yield "peak in GiB".ljust(46) + "".join(name.rjust(8) for name in names) + "  main memory"
    fitting: MemoryMode | None = None
    for mode in MODES:
        if mode.quantize == "nf4" and all(need.stored_packed for need in needs):
            continue
        peaks = [need.peak(mode) / GIB for need in needs]
        line = " ".join(mode.flags()).ljust(46) + "".join(f"{peak:8.2f}" for peak in peaks)
        line += f"{host_bytes(needs, mode) / GIB:13.2f}"
        if limit is not None:
            fits = max(peaks) + RESERVE_GIB <= limit
            line += "  fits" if fits else "  does not fit"
            fitting = fitting or (mode if fits else None)
        yield line
    if limit is None:
        yield "no GPU is here to compare with: --device_memory_gib=8 does with one of 8 GiB"
        return
    yield (
        f"fits: the peak leaves {RESERVE_GIB:g} GiB of {limit:.1f} to CUDA and its libraries, which"
        " are not counted"
    )
    if fitting is None:
        yield "nothing fits: take a smaller --resolution, and --depth_resolution"
    else:
        flags = " ".join(fitting.flags())
        yield f"take {flags}" if flags else "all fits as it is: no flag is needed"


def host_bytes(needs: list[Need], mode: MemoryMode) -> int:
    """Weights that wait in main memory: those of the other model, and UNets that are offloaded."""
    unets = [need.unet_bytes(mode) for need in needs]
    waiting = [need.others for need in needs] if len(needs) > 1 else [0]
    if mode.offload != "none":
        return sum(unets) + max(waiting)
    if len(needs) == 1:
        return 0
    return max(unet + others for unet, others in zip(unets, waiting, strict=True))


def _gib(count: int) -> str:
    return f"{count / GIB:.2f}"
