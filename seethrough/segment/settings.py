"""What the flags of `python -m seethrough.segment` say. Imports no torch."""

from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import chosen_run, settings_help, take_settings
from seethrough.recipe import (
    Execution,
    Hub,
    Local,
    NonNegativeInt,
    PositiveInt,
    RecipeError,
    Section,
    recipe,
)

PROGRAM = "python -m seethrough.segment"

FOLDERS = {
    "from": ("FOLDER", "a run of ours, such as runs/transparency_sd35: the model that it trained"),
    "out": ("FOLDER", "where to put the results; default: segmented"),
}
"""Flags that name folders: what each takes, and what it means."""

MODELS = """\
  --model=file:FOLDER, --model=hub:OWNER/NAME
      a fine-tuned SD3 transformer in diffusers' layout, such as
      `python -m seethrough.segment.export` writes; one without the subfolder vae takes it from
      --base=hub:stabilityai/stable-diffusion-3.5-medium
  --from=FOLDER
      a run of ours"""


@recipe
class ModelSettings(Section):
    """Which model segments, and how."""

    model: Hub | Local | None = None
    """A repository or folder with the subfolder `transformer`, or that folder itself: a fine-tuned
    SD3 transformer in diffusers' layout."""

    base: Hub | Local | None = None
    """What the model was trained from, for its subfolder `vae`; none takes the model's own."""

    prompt: Local | None = None
    """Folder with the stored empty prompt; none takes `precomputed_prompt_embeddings` in the
    model's or the base's."""

    resolution: PositiveInt | None = None
    """Side in px of the square that the network sees; none takes the model's: 1024, or what a run
    says."""

    posterior: Literal["mean", "sample"] = "mean"
    """Latents of a photo: the mean of the autoencoder's posterior, or a draw, as published."""

    steps: PositiveInt = 100
    """Of a model trained with objective.method=diffusion: steps from noise to a mask."""

    seed: NonNegativeInt = 0
    """With a photo's pixels it fixes what is drawn: latents, and the noise of diffusion."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of the networks; auto takes bf16 on a GPU and fp32 on a CPU."""

    device: Execution[Literal["auto", "cpu", "cuda"]] = "auto"
    """Where to compute; auto takes CUDA when there is a GPU."""

    batch: Execution[PositiveInt] = 1
    """Photos that go through the network together; how many changes a mask by rounding alone."""


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
            says which photos or which model.
    """
    words, settings, folders = take_settings(
        arguments, "seethrough.segment", ModelSettings(), FOLDERS
    )
    if not words:
        raise RecipeError(f"no photo given: {PROGRAM} IMAGE... [--flags]; --help lists the flags")
    run = chosen_run(settings.model, folders, MODELS)
    return Command(words, settings, run, Path(folders.get("out", "segmented")))


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    return f"""\
{PROGRAM} IMAGE... [--flags]

Finds what is transparent in photos. IMAGE is a photo of any size and kind, a folder of photos, or
a list of them (.txt, .json). Of each it writes, at its size:

  NAME_pred.png     how transparent each pixel is, 0 to 255
  NAME_maskq.png    where that is above a half: 255, else 0
  NAME_overlay.jpg  the photo with that in colour
  NAME.json         what it was made from, and how much of it is transparent

What is done is skipped: after an interruption the same command goes on. Under torchrun or
accelerate launch each process takes its share of the photos.

Exit code: 0, 1 when a photo failed, 2 when nothing could begin.

flags
{settings_help(ModelSettings(), FOLDERS)}

models
{MODELS}"""
