"""How a model is used, as its run says."""

from __future__ import annotations

import re

import attrs

from seethrough.data.trans10k import CLASSES, find_version
from seethrough.engine.trained import Trained
from seethrough.inference.transparency import TIMESTEP

FILE = "segment.json"
"""In an exported model's folder; a published one has none, and the defaults are its own."""


@attrs.frozen(kw_only=True)
class ModelOptions:
    """What a model was trained with, and has to be used with; the defaults are the published."""

    resolution: int = 1024
    """Side in pixels of the squares; of several, the largest."""
    timestep: float = TIMESTEP
    """What the transformer is told, of one step."""
    shift: float | None = None
    """Of diffusion, how far its steps are shifted towards noise; None is a model of one step."""
    classes: int = 2
    """Colours of its pictures, background among them."""


def run_options(trained: Trained) -> ModelOptions:
    """What the training's record says."""
    diffusion = trained.config("objective.method") == "diffusion"
    sides = re.findall(r"\d+", trained.config("data.target_sizes") or "")
    return ModelOptions(
        resolution=max(map(int, sides)),
        timestep=float(trained.config("objective.timestep") or TIMESTEP),
        shift=float(trained.config("objective.shift") or 0) if diffusion else None,
        classes=_classes(trained) if trained.config("data.classes") == "apart" else 2,
    )


def _classes(trained: Trained) -> int:
    """Classes that a model trained with classes apart tells: those of its first dataset."""
    fields = [field for field in trained.record.inputs if field.startswith("data.sources")]
    return len(CLASSES[find_version(trained.input(fields[0]))])
