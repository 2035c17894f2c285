"""What the flags of `python -m seethrough.partseg` say. Imports no torch."""

from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import chosen_run, settings_help, take_settings
from seethrough.recipe import Execution, Hub, Local, RecipeError, Section, recipe

PROGRAM = "python -m seethrough.partseg"

FOLDERS = {
    "from": ("FOLDER", "a run of ours, such as runs/partseg_samhq: the model that it trained"),
    "out": ("FOLDER", "where to put the results; default: parts"),
}
"""Flags that name folders: what each takes, and what it means."""

MODELS = """\
  --model=hub:24yearsold/l2d_sam_iter2
      the published model of 19 parts
  --model=file:PATH
      a published file, checkpoint-STEP.pt, or a folder that a run of ours left
  --from=FOLDER
      a run of ours"""


@recipe
class ModelSettings(Section):
    """Which model finds the parts, and how."""

    model: Hub | Local | None = None
    """A file of SemanticSam's weights, or a repository or folder with one. A file of torch.save
    holds plain tensors, or is refused."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of the network; auto takes bf16 on a GPU and fp32 on a CPU."""

    device: Execution[Literal["auto", "cpu", "cuda"]] = "auto"
    """Where to compute; auto takes CUDA when there is a GPU."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    images: tuple[str, ...]
    settings: ModelSettings
    run: Path | None
    """What `--from` names."""
    out: Path


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown or repeated flag, a value of another kind, and when nothing
            says which pages or which model.
    """
    words, settings, folders = take_settings(
        arguments, "seethrough.partseg", ModelSettings(), FOLDERS
    )
    if not words:
        raise RecipeError(f"no page given: {PROGRAM} IMAGE... [--flags]; --help lists the flags")
    run = chosen_run(settings.model, folders, MODELS)
    return Command(words, settings, run, Path(folders.get("out", "parts")))


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    return f"""\
{PROGRAM} IMAGE... [--flags]

Finds the body parts in pictures of characters. IMAGE is a picture of any size and kind, a folder
of pictures, or a list of them (.txt, .json). Of each, such as a.png, it writes, at its size:

  a.png_masks.json  a mask for each part: a list of COCO run lengths, each with its tag
  a.png_parts.png   the picture with the parts in colour, and a legend
  a.png.json        what it was made from, and the share of the picture that each part takes

What is done is skipped: after an interruption the same command goes on. Under torchrun or
accelerate launch each process takes its share of the pictures.

Exit code: 0, 1 when a picture failed, 2 when nothing could begin.

flags
{settings_help(ModelSettings(), FOLDERS)}

models
{MODELS}"""
