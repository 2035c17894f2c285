"""How a model is used: as its run says, or the file that an export of a run lays beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import cattrs

from seethrough.data.trans10k import CLASSES, find_version
from seethrough.engine.files import write_json
from seethrough.engine.trained import Trained
from seethrough.errors import InputError
from seethrough.inference.transparency import TIMESTEP

FILE = "segment.json"
"""In an exported model's folder; a published one has none, and the defaults are its own."""

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@attrs.frozen(kw_only=True)
class ModelOptions:
    """What a model was trained with, and has to be used with; the defaults are the published."""

    resolution: int = 1024
    """Side in pixels of the squares; of several, the largest."""
    timestep: float = TIMESTEP
    """What the transformer is told."""
    classes: int = 2
    """Colours of its pictures, background among them."""


def run_options(trained: Trained) -> ModelOptions:
    """What the training's record says.

    Raises:
        InputError: when the model doesn't predict a mask in one step.
    """
    method = trained.config("objective.method")
    if method != "one_step":
        raise InputError(
            f"{trained.where}: trained with objective.method={method}: one_step models segment"
        )
    sides = re.findall(r"\d+", trained.config("data.target_sizes") or "")
    return ModelOptions(
        resolution=max(map(int, sides)),
        timestep=float(trained.config("objective.timestep") or TIMESTEP),
        classes=_classes(trained) if trained.config("data.classes") == "apart" else 2,
    )


def _classes(trained: Trained) -> int:
    """Classes that a model trained with classes apart tells: those of its first dataset."""
    fields = [field for field in trained.record.inputs if field.startswith("data.sources")]
    return len(CLASSES[find_version(trained.input(fields[0]))])


def write_options(folder: Path, options: ModelOptions) -> None:
    """Write the options beside an exported model."""
    write_json(folder / FILE, attrs.asdict(options))


def read_options(folder: Path) -> ModelOptions:
    """The options beside a model; the published ones if there are none.

    Raises:
        InputError: when the file can't be read as such options.
    """
    file = folder / FILE
    try:
        return _CONVERTER.structure(json.loads(file.read_text(encoding="utf-8")), ModelOptions)
    except FileNotFoundError:
        return ModelOptions()
    except (OSError, ValueError, TypeError, cattrs.BaseValidationError) as error:
        raise InputError(f"{file}: no options of a model ({error!r}): export it again") from error
