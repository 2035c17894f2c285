"""Bytes that a training stage needs on each device, from counts of parameters. Imports no torch."""

import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from seethrough.recipe import Output
from seethrough.recipes.training import Adafactor, AdamW8bit, TrainStage

GIB = 2**30


def memory_lines(stage: TrainStage, outputs: Mapping[Output, Path]) -> Iterator[str]:
    """The arithmetic, a line a part: weights, gradients, optimizer state, average, casts."""
    start = stage.network
    if isinstance(start, Output) and start in outputs:
        count = count_parameters(outputs[start])
    else:
        count = stage.parameters
    if count is None:
        yield f"memory: known once {start} is there" if start else "memory: not counted"
        return
    state = 2.0 if isinstance(stage.optim, AdamW8bit) else 8.0
    if isinstance(stage.optim, Adafactor):
        # Rows and columns in place of a matrix: far below a byte a parameter.
        state = 0.1
    parts = {
        "weights, float32": 4.0,
        "gradients, float32": 4.0,
        f"{type(stage.optim).__name__} state": state,
        "average of weights": 4.0 if stage.optim.ema_decay is not None else 0.0,
        f"{stage.optim.precision} casts of weights": 0.0
        if stage.optim.precision == "fp32"
        else 2.0,
    }
    yield f"memory: {count:,} parameters"
    for name, bytes_each in parts.items():
        if bytes_each:
            yield f"  {name}: {bytes_each:g} B each = {count * bytes_each / GIB:.1f} GiB"
    total = count * sum(parts.values()) / GIB
    room = stage.hardware.device_memory_gib - total
    verdict = (
        f"leaves {room:.1f} of {stage.hardware.device_memory_gib:g} GiB for frozen networks and "
        "activations: data parallelism fits"
        if room > 0
        else f"does not fit in {stage.hardware.device_memory_gib:g} GiB: spread the state"
    )
    yield f"  {total:.1f} GiB a device {verdict}"


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
