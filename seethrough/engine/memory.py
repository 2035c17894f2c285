"""Bytes that a training stage needs on each device, from counts of parameters. Imports no torch."""

import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import attrs

from seethrough.recipe import Output
from seethrough.recipes.training import Adafactor, AdamW, AdamW8bit, DeepSpeed, TrainStage

GIB = 2**30


@attrs.frozen
class Part:
    """Bytes a parameter of one kind of state: on each device, and on the host for each process."""

    name: str
    device: float
    host: float = 0.0


def memory_lines(stage: TrainStage, outputs: Mapping[Output, Path]) -> Iterator[str]:
    """The arithmetic, a line a part, and whether the sum fits beside the rest."""
    start = stage.network
    if isinstance(start, Output) and start in outputs:
        count = count_parameters(outputs[start])
    else:
        count = stage.parameters
    if count is None:
        yield f"memory: known once {start} is there" if start else "memory: not counted"
        return
    trained = count if stage.trained_parameters is None else stage.trained_parameters
    frozen = (count - trained) * frozen_bytes(stage, stage.deepspeed) / GIB
    parts = state_parts(stage, stage.deepspeed)
    yield f"memory: {count:,} parameters"
    if trained < count:
        yield f"  {trained:,} of them are trained; the others take {frozen:.1f} GiB a device"
    for part in parts:
        for where, each in (("a device", part.device), ("on the host", part.host)):
            if each:
                yield f"  {part.name}: {each:.3g} B each = {trained * each / GIB:.1f} GiB {where}"
    yield from _host_lines(stage, count, trained * sum(part.host for part in parts))
    shown = (stage.schedule.validate_every, stage.schedule.pictures_every) != (None, None)
    if shown and stage.deepspeed.zero_stage > 0:
        whole = 4.0 * count / GIB
        yield f"  {whole:.1f} GiB more on the main device while it validates or makes pictures"
    buckets = bucket_gib(stage, stage.deepspeed, trained)
    if buckets:
        yield f"  {buckets:.1f} GiB a device for buckets of gradients"
    total = frozen + _device_gib(trained, parts) + buckets
    limit = stage.hardware.device_memory_gib
    verdict = (
        f"leaves {limit - total:.1f} of {limit:g} GiB for frozen networks and activations: it fits"
        if total < limit
        else f"does not fit in {limit:g} GiB: {_remedy(stage, count, trained)}"
    )
    yield f"  {total:.1f} GiB a device {verdict}"


def _host_lines(stage: TrainStage, count: int, offloaded: float) -> Iterator[str]:
    """Host memory of all processes; `offloaded` are the bytes of each that stay there."""
    processes = stage.hardware.processes
    stays = offloaded * processes / GIB
    if stays:
        yield f"  {stays:.1f} GiB of host memory for {processes} processes"
    limit = stage.hardware.host_memory_gib
    if limit is None:
        return
    # Each process builds the network in float32 before it hands it over; under ZeRO its weights
    # are kept until the parts have taken them over.
    start = stays + 4.0 * count * processes / GIB
    verdict = "it fits" if start < limit else "it does not fit"
    yield (
        f"  {start:.1f} of {limit:g} GiB of host memory at the start, when each process has the "
        f"network in float32: {verdict}"
    )


def frozen_bytes(stage: TrainStage, deepspeed: DeepSpeed) -> float:
    """What a parameter that is not trained takes on each device."""
    if deepspeed.zero_stage == 0:
        return 4.0
    if deepspeed.offload_parameters is not None:
        return 0.0
    low = 4.0 if stage.optim.precision == "fp32" else 2.0
    return low / stage.hardware.processes if deepspeed.zero_stage == 3 else low


def state_parts(stage: TrainStage, deepspeed: DeepSpeed) -> list[Part]:
    """What training holds for every parameter if it is distributed like that."""
    low = 4.0 if stage.optim.precision == "fp32" else 2.0
    average = 4.0 if stage.optim.ema_decay is not None else 0.0
    if deepspeed.zero_stage == 0:
        # Adafactor has rows and columns in place of a matrix: far below a byte a parameter.
        state = {AdamW8bit: 2.0, Adafactor: 0.1}.get(type(stage.optim), 8.0)
        parts = [
            Part("weights, float32", 4.0),
            Part("gradients, float32", 4.0),
            Part(f"{type(stage.optim).__name__} state", state),
            Part("average of weights", average),
        ]
        if low < 4.0:
            parts.append(Part(f"{stage.optim.precision} casts of weights", low))
        return parts
    share = 1.0 / stage.hardware.processes
    on_host = deepspeed.offload_optimizer == "cpu"
    weights = low * (share if deepspeed.zero_stage == 3 else 1.0)
    gradients = low * (share if deepspeed.zero_stage > 1 else 1.0)
    optimizer = {
        "weights, float32": 4.0 * share,
        f"{type(stage.optim).__name__} state": 8.0 * share,
        "average of weights": average * share,
    }
    name = f"weights, {stage.optim.precision}"
    parts = [
        Part(name, weights)
        if deepspeed.offload_parameters is None
        else Part(name, 0.0, weights if deepspeed.offload_parameters == "cpu" else 0.0),
        Part(f"gradients, {stage.optim.precision}", gradients),
    ]
    if on_host:
        # Gradients are copied there in float32 for the step.
        optimizer["gradients, float32"] = 4.0 * share
    for name, each in optimizer.items():
        parts.append(Part(name, 0.0, each) if on_host else Part(name, each))
    return parts


def bucket_gib(stage: TrainStage, deepspeed: DeepSpeed, count: int) -> float:
    """What ZeRO-2 and 3 collect gradients in; two of them where communication overlaps."""
    if deepspeed.zero_stage < 2:
        return 0.0
    overlap = (
        deepspeed.zero_stage == 3 if deepspeed.overlap_comm is None else deepspeed.overlap_comm
    )
    elements = min(count, deepspeed.reduce_bucket_size) * (2 if overlap else 1)
    return elements * (4.0 if stage.optim.precision == "fp32" else 2.0) / GIB


def _device_gib(count: int, parts: list[Part]) -> float:
    return count * sum(part.device for part in parts) / GIB


def _remedy(stage: TrainStage, count: int, trained: int) -> str:
    """The first wider distribution that fits."""
    if not isinstance(stage.optim, AdamW) or stage.optim.precision == "fp16":
        return "use more or larger devices, or AdamW in bf16 or fp32, whose state ZeRO can spread"
    candidates = [
        DeepSpeed(zero_stage=1),
        DeepSpeed(zero_stage=2),
        DeepSpeed(zero_stage=3),
        DeepSpeed(zero_stage=3, offload_optimizer="cpu"),
        DeepSpeed(zero_stage=3, offload_optimizer="cpu", offload_parameters="cpu"),
    ]
    for candidate in candidates:
        parts = state_parts(stage, candidate)
        total = _device_gib(trained, parts) + bucket_gib(stage, candidate, trained)
        total += (count - trained) * frozen_bytes(stage, candidate) / GIB
        if total < stage.hardware.device_memory_gib:
            flags = [f"deepspeed.zero_stage={candidate.zero_stage}"]
            if candidate.offload_optimizer is not None:
                flags.append(f"deepspeed.offload_optimizer={candidate.offload_optimizer}")
            if candidate.offload_parameters is not None:
                flags.append(f"deepspeed.offload_parameters={candidate.offload_parameters}")
            return f"with {' and '.join(flags)} it would be {total:.1f} GiB"
    return "nothing that can be spread or offloaded makes it fit: use more or larger devices"


def count_parameters(folder: Path) -> int:
    """Elements of the floating tensors in a folder's safetensors files, from their headers."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        total += sum(
            prod(entry["shape"])
            for key, entry in header.items()
            if key != "__metadata__" and "F" in entry["dtype"]
        )
    return total
