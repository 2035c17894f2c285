"""What the flags of `python -m seethrough.evaluate` say. Imports no torch."""

from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import chosen_run, settings_help, take_settings
from seethrough.recipe import PositiveInt, RecipeError, recipe
from seethrough.segment.settings import FOLDERS, MODELS, ModelSettings

PROGRAM = "python -m seethrough.evaluate"

_FOLDERS = {**FOLDERS, "out": ("FOLDER", "where to put the results; default: evaluated")}


@recipe
class Settings(ModelSettings):
    """Which model is measured, on what, and how."""

    split: Literal["train", "validation", "test"] = "test"
    """Which split of the dataset."""

    difficulty: Literal["easy", "hard", "mix"] = "mix"
    """Which photos of it; mix takes all, and tells easy and hard apart where the dataset does."""

    grid: PositiveInt | None = None
    """Side in px of the square on which a photo is measured; none takes the photo's own size. The
    published numbers are on 1024."""

    pictures: bool = False
    """Write the pictures of every photo on that grid, with their published names: _pred, _maskq,
    _maskgt, _img."""

    xattr: bool = False
    """Write IoU, recall and MSE as extended attributes of _pred too: user.iou, user.recall and
    user.mse."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    root: Path
    """The dataset's folder."""
    settings: Settings
    run: Path | None
    """What `--from` names."""
    out: Path


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown or repeated flag, a value of another kind, and when nothing
            says which dataset or which model.
    """
    words, settings, folders = take_settings(arguments, "seethrough.evaluate", Settings(), _FOLDERS)
    if len(words) != 1:
        raise RecipeError(
            f"given {' '.join(words) or 'nothing'}: write {PROGRAM} TRANS10K [--flags], with the"
            " folder of a copy of Trans10K; --help lists the flags"
        )
    if settings.xattr and not settings.pictures:
        raise RecipeError("--xattr: attributes of which files? give --pictures too")
    run = chosen_run(settings.model, folders, MODELS)
    return Command(Path(words[0]), settings, run, Path(folders.get("out", "evaluated")))


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    return f"""\
{PROGRAM} TRANS10K [--flags]

Measures how well a model finds what is transparent in the photos of a copy of Trans10K (how to get
one: python -m seethrough.trans10k --help). It writes:

  results.json         the means of easy, hard and all photos, in both protocols
  table.md, table.csv  the same as a table
  photos.csv           the measures of every photo
  best.jpg, worst.jpg  those of highest and lowest IoU: green is found, red missed, blue wrong
  photos/              of every photo its measures and such a picture

What is done is skipped: after an interruption the same command goes on. Under torchrun or
accelerate launch each process takes its share of the photos, and every photo counts once.

Exit code: 0, 1 when a photo failed and is not in the means, 2 when nothing could begin.

flags
{settings_help(Settings(), _FOLDERS)}

models
{MODELS}"""
