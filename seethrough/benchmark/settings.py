"""What the flags of `python -m seethrough.benchmark` say. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import settings_help, take_settings
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
from seethrough.recipe.errors import nearest
from seethrough.recipes.layer_data import LayerAlpha

PROGRAM = "python -m seethrough.benchmark"

LEAST_CUTOUT = 176
"""Pixels a side that the fifth scale of MS-SSIM needs."""

_FOLDERS = {"out": ("FOLDER", "where to put the results; default: benchmarked/WHAT")}


@recipe
class Settings(Section):
    """What all benchmarks share."""

    worst: Execution[NonNegativeInt] = 24
    """How many of the worst cases the page shows."""


@recipe
class LayeredSettings(Settings):
    """Which true layers are measured against."""

    tags: Literal["v3", "v2"] = "v3"
    """Which body-part tags are measured: the 23 of V3, or the 19 of V2, for which hair and eyes are
    made of V3's layers where a sample lacks them. `head` repeats its parts and is not measured."""

    layer_alpha: LayerAlpha = "premultiplied"
    """How the colour of true layers relates to alpha where a sample's annotation doesn't say: the
    published renderer writes it premultiplied."""


@recipe
class LayersSettings(LayeredSettings):
    """How layers are measured."""

    resolution: PositiveInt = 1024
    """Side in px of the square that all layers are brought to, as published. Numbers of different
    ones do not compare."""

    cutout: PositiveInt = 256
    """Side in px of what pictures are compared on: the square around a layer, true and predicted,
    on white. Numbers of different ones do not compare."""

    without_networks: bool = False
    """Leave out what needs a network."""

    lpips: Hub | Local | None = None
    """VGG16 of torchvision, for LPIPS: a file, or a repository such as hub:timm/vgg16.tv_in1k; none
    takes that of torch's cache, if it is there."""

    inception: Local | None = None
    """Inception v3 of torch-fidelity, for FID and KID; none takes that of torch's cache, if it is
    there."""

    clip: Hub | Local | None = None
    """A folder or repository with CLIP in transformers' layout, for its scores, such as
    hub:openai/clip-vit-large-patch14, the published one; none leaves them out."""

    device: Execution[Literal["auto", "cpu", "cuda"]] = "auto"
    """Where to compute; auto takes CUDA when there is a GPU."""


@recipe
class DepthSettings(LayeredSettings):
    """How depth is measured."""

    nearest: Literal["dark", "bright"] = "dark"
    """What is near in predicted depths that are PNGs: dark, as published, or bright."""


@recipe
class PartsegSettings(Settings):
    """How part segmentation is measured."""


VERBS: Mapping[str, Settings] = {
    "layers": LayersSettings(),
    "depth": DepthSettings(),
    "partseg": PartsegSettings(),
}
"""What can be measured, with the settings without flags."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    verb: str
    """One of `VERBS`."""
    samples: Path
    """The samples whose truth is known, as `read_sample_list` takes them."""
    predictions: Path
    """Folder of the predictions."""
    settings: Settings
    out: Path


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown verb, an unknown or repeated flag, a value of another kind, and
            when samples or predictions are missing.
    """
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError(f"what is measured? {PROGRAM} {'|'.join(VERBS)} SAMPLES PREDICTIONS")
    verb, *rest = arguments
    if verb not in VERBS:
        raise RecipeError(f"{verb}: nothing to measure; {nearest(verb, list(VERBS))}")
    words, settings, folders = take_settings(
        rest, f"seethrough.benchmark {verb}", VERBS[verb], _FOLDERS
    )
    if len(words) != 2:
        raise RecipeError(
            f"given {' '.join(words) or 'nothing'}: write {PROGRAM} {verb} SAMPLES PREDICTIONS"
            " [--flags]; --help lists the flags"
        )
    if isinstance(settings, LayersSettings) and settings.cutout < LEAST_CUTOUT:
        raise RecipeError(f"--cutout={settings.cutout}: MS-SSIM needs at least {LEAST_CUTOUT}")
    samples, predictions = map(Path, words)
    out = Path(folders.get("out", f"benchmarked/{verb}"))
    return Command(verb, samples, predictions, settings, out)


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    shared = settings_help(Settings(), {})
    own = {verb: settings_help(default, {}) for verb, default in VERBS.items()}
    more = "".join(
        f"\n\nmore flags of {verb}{flags.removeprefix(shared)}"
        for verb, flags in own.items()
        if flags != shared
    )
    return f"""\
{PROGRAM} layers|depth|partseg SAMPLES PREDICTIONS [--flags]

Measures predictions against samples whose truth is known. SAMPLES is a folder of pages with their
layers beside them, or a list of pages (.txt, .json). PREDICTIONS is a folder with, of each page
NAME.png, what is measured:

  layers   NAME/NAME.psd or NAME.psd, as seethrough.decompose and our runs write them; or else
           NAME/layers/TAG.png, NAME/optimized/TAG.png with info.json, or NAME/TAG.png
  depth    NAME/NAME_depth.psd, as seethrough.decompose writes it, or else the folders above with
           TAG_depth.png; the order of the layers from NAME/NAME.psd.json; the page's depth from
           NAME_depth.png or NAME/NAME_depth.png
  partseg  NAME.png_masks.json or NAME/NAME.png_masks.json, or without .png: COCO run lengths of the
           19 tags of V2, the 23 of V3, or these and head

It writes:

  results.json              what was measured, of what, and what could not be and why
  table.md, table.csv       the means: over all, and of each tag
  samples.csv               every sample
  worst.html                the worst cases, prediction beside truth
  samples/                  the measures of each sample

What is done is skipped: after an interruption the same command goes on. Under torchrun or
accelerate launch each process takes its share of the samples, and every sample counts once.

Exit code: 0, 1 when a sample failed and is in no mean, 2 when nothing could begin.

flags
{settings_help(Settings(), _FOLDERS)}{more}"""
