"""A run's model as a folder in the published layout: `python -m seethrough.segment.export`."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seethrough.arguments import settings_help, take_settings
from seethrough.commands import run_command
from seethrough.engine.files import clear_disk_errors
from seethrough.errors import InputError
from seethrough.recipe import RecipeError, Section, recipe

if TYPE_CHECKING:
    from seethrough.engine.trained import Trained

USAGE = "python -m seethrough.segment.export RUN FOLDER [--flags]"


@recipe
class Export(Section):
    """How to export."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of all weights."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(given or ["--help"], _help, _run)


def _help() -> str:
    return f"""\
{USAGE}

Writes the model that a run trained, and all that it needs, as a folder: for
`segment --model=file:FOLDER` and for diffusers' own loaders.

flags
{settings_help(Export(), {})}"""


def _run(arguments: list[str]) -> list[str]:
    words, settings, _ = take_settings(arguments, "seethrough.segment.export", Export())
    if len(words) != 2:
        raise RecipeError(f"given {' '.join(words) or 'nothing'}: write {USAGE}")
    from seethrough.engine.trained import trained_transformer

    trained, folder = trained_transformer(Path(words[0])), Path(words[1])
    export(trained, folder, settings.precision)
    print(f"{folder}: the model of {trained.where}; --model=file:{folder} segments with it")
    return []


def export(trained: "Trained", folder: Path, precision: Literal["bf16", "fp32"]) -> None:
    """Write transformer, autoencoder, the empty prompt as its two published files, and how the
    model is used: whole or not at all.

    Raises:
        InputError: when the folder holds something, or a part of the model is gone or broken.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from seethrough.engine.model_options import write_options
    from seethrough.models.checkpoints import load_model, open_base
    from seethrough.models.empty_prompt_sd3 import read_prompt
    from seethrough.models.published_prompt import FOLDER, write_published_prompt
    from seethrough.models.sd3 import load_transformer
    from seethrough.segment.options import FILE, run_options

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: there is something already: give a new folder")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    options = run_options(trained)
    vae = open_base(trained.input("model.base", ("vae",))).require("vae")
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    with clear_disk_errors(folder.parent):
        partial.mkdir(parents=True)
        load_transformer(trained.transformer, dtype).save_pretrained(partial / "transformer")
        load_model(AutoencoderKL, vae, dtype).save_pretrained(partial / "vae")
        write_published_prompt(partial / FOLDER, read_prompt(trained.input("model.prompt")))
        write_options(partial / FILE, options)
        os.replace(partial, folder)


if __name__ == "__main__":
    sys.exit(main())
