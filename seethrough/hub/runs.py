"""Runs as folders in the published layout."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from seethrough.decompose.export import export
from seethrough.decompose.layout import Family
from seethrough.engine.trained import Trained, trained_unets
from seethrough.errors import InputError
from seethrough.hub.settings import Export
from seethrough.recipe import RecipeError


def choose(run: Path, settings: Export) -> tuple[Family, Trained]:
    """The model of a run that the settings mean.

    Raises:
        InputError: when the run has no such model, or several and no choice is made.
    """
    found: dict[Family, Trained] = {
        "layers" if one.is_layerdiff else "depth": one for one in trained_unets(run)
    }
    if settings.model is None and len(found) > 1:
        raise RecipeError(f"{run}: it trained {' and '.join(found)}: choose with --model=")
    family = settings.model or next(iter(found), None)
    if family is None or family not in found:
        what = "a 3D UNet" if family is None else f"a model of {family}"
        raise InputError(
            f"{run}: no finished stage trained {what}: run one first; a model of transparency is"
            " exported by python -m seethrough.segment.export"
        )
    return family, found[family]


def write_model(trained: Trained, folder: Path, settings: Export) -> None:
    """Write a model as a new folder.

    Raises:
        InputError: as `seethrough.decompose.export.export`.
    """
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    export(trained, folder, dtype, settings.license)


@contextlib.contextmanager
def written_model(trained: Trained, settings: Export) -> Iterator[Path]:
    """A folder with the model, beside the run's stages, for as long as it is needed.

    The same run gives the same bytes, so that an upload of them can go on where another stopped.
    """
    folder = trained.run / f".upload-{trained.record.stage}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        write_model(trained, folder, settings)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
