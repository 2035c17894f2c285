"""What the flags of `python -m seethrough.decompose` say. Imports no torch."""

from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import settings_help, take_settings
from seethrough.recipe import (
    Execution,
    Hub,
    Local,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RecipeError,
    Section,
    recipe,
)

PROGRAM = "python -m seethrough.decompose"

PACKAGED_MODELS = {"avatars": "drawn heads, small: comes with the package"}
"""The models that need no network, as `--model` takes them."""

LAYER_MODELS = {
    "hub:layerdifforg/seethroughv0.0.2_layerdiff3d": "LayerDiff V3: 23 tags, the head enlarged",
    "hub:layerdifforg/seethroughv0.0.1_layerdiff3d": "LayerDiff V2: the paper's 19 tags",
    "hub:24yearsold/seethroughv0.0.2_layerdiff3d_nf4": "LayerDiff V3 in 4 bits: less memory",
}
"""The published models of layers, as `--layers` takes them."""

DEPTH_MODELS = {
    "hub:24yearsold/seethroughv0.0.1_marigold": "Marigold 3D, for either version's layers",
    "hub:24yearsold/seethroughv0.0.1_marigold_nf4": "the same in 4 bits",
}
"""The published models of depth, as `--depth` takes them."""

OPTIONS = {
    "from": ("FOLDER", "a run of ours, such as runs/layerdiff3d_v3: the models that it trained"),
    "out": ("FOLDER", "where to put the results, a folder an image; default: decomposed"),
}
"""Flags that name folders: what each takes, and what it means."""


@recipe
class Settings(Section):
    """How to decompose."""

    model: Literal["avatars"] | None = None
    """The small model that comes with the package, for layers and depth: drawn heads and shoulders
    of the kind that it was trained on, and no network needed."""

    layers: Hub | Local | None = None
    """The model that predicts layers: a LayerDiff 3D repository, or a folder laid out as one."""

    depth: Hub | Local | None = None
    """The model that predicts their depth: a Marigold 3D repository, or a folder laid out as one;
    without one the layers lie in a fixed drawing order."""

    seed: NonNegativeInt = 42
    """With an image's bytes it fixes every random number: the same seed, the same files."""

    resolution: PositiveInt | None = None
    """Side of the square canvas in px; none takes the model's: 1280, or what a run says."""

    steps: PositiveInt | None = None
    """Denoising steps of the layers; none takes 30, or what a run says."""

    depth_resolution: PositiveInt | None = None
    """Side of the square that the model of depth sees, in px; none takes the model's: 768, or what
    a run says."""

    depth_ensemble: PositiveInt = 1
    """Runs of the model of depth from different noise, whose median counts."""

    size: Literal["picture", "canvas"] = "picture"
    """Size of PSDs and PNGs: picture, to lie over the picture pixel by pixel; or canvas, the square
    that the model sees, with the picture in its middle, as published. The canvas decides how fine
    layers are: those of a larger picture are enlarged."""

    split: bool = False
    """Split pairs (eyes, ears, hands) into left and right, and hair in one layer by depth."""

    pngs: bool = False
    """Write each layer as a PNG too."""

    decode_all: bool = False
    """Decode all layers; else those whose latents are those of nothing are left empty, which takes
    less time."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of the networks; auto takes bf16 on a GPU and fp32 on a CPU."""

    offload: Execution[Literal["none", "blocks", "layers"]] = "none"
    """What waits in main memory while it doesn't compute, for a GPU that is too small: blocks of
    the UNets, so that one and the next are on the GPU (block swap); or single layers, which needs
    the least memory and takes more time. Results stay the same."""

    quantize: Literal["none", "nf4"] = "none"
    """Pack the UNets' linear layers to 4 bits when they are loaded: results are coarser."""

    vae_tiling: bool = False
    """Encode and decode pictures one at a time and in tiles of 512 px, which changes results: the
    VAE sees a tile at a time."""

    plan: bool = False
    """Load nothing; print what memory each of these modes needs, and which fit. Takes no image."""

    device_memory_gib: Execution[PositiveFloat | None] = None
    """Memory of the GPU that `--plan` is for, in GiB; none takes that of the GPU here."""

    device: Execution[Literal["auto", "cpu", "cuda"]] = "auto"
    """Where to compute; auto takes CUDA when there is a GPU."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    images: tuple[str, ...]
    settings: Settings
    run: Path | None
    """What `--from` names."""
    out: Path


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown or repeated flag, a value of another kind, and when nothing
            says which images or which model.
    """
    words, settings, folders = take_settings(arguments, "seethrough.decompose", Settings(), OPTIONS)
    if not words and not settings.plan:
        raise RecipeError(f"no image given: {PROGRAM} IMAGE... [--flags]; --help lists the flags")
    run = Path(folders["from"]) if "from" in folders else None
    if settings.model is not None:
        others = {"layers": settings.layers, "depth": settings.depth, "from": run}
        if given := [f"--{name}" for name, value in others.items() if value is not None]:
            raise RecipeError(f"--model and {', '.join(given)}: one choice of models at a time")
    elif settings.layers is None and run is None:
        raise RecipeError(f"no model of layers given; choose one:\n{_choices()}")
    return Command(words, settings, run, Path(folders.get("out", "decomposed")))


def _choices() -> str:
    lines = [f"  --model={name}\n      {doc}" for name, doc in PACKAGED_MODELS.items()]
    lines += [f"  --layers={name}\n      {doc}" for name, doc in LAYER_MODELS.items()]
    lines += ["  --layers=file:FOLDER\n      a folder laid out as these repositories are"]
    lines += [f"  --from={OPTIONS['from'][0]}\n      {OPTIONS['from'][1]}"]
    lines += ["and, for the drawing order, beside --layers:"]
    lines += [f"  --depth={name}\n      {doc}" for name, doc in DEPTH_MODELS.items()]
    return "\n".join(lines)


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    from seethrough.data.pictures import MAX_PIXELS

    lines = [
        f"{PROGRAM} IMAGE... [--flags]",
        "",
        "Takes illustrations apart into layered PSDs in drawing order. IMAGE is a picture of any",
        f"kind and of at most {MAX_PIXELS // 1_000_000} million pixels, a folder of pictures, or a"
        " list of them",
        "(.txt, .json); the word `example` is a picture that comes with the package. What is done",
        "is skipped: after an interruption the same command goes on.",
        "",
        f"  {PROGRAM} example --model=avatars",
        "",
        "Exit code: 0, 1 when an image failed, 2 when nothing could begin.",
        "",
        "flags",
    ]
    return "\n".join([*lines, settings_help(Settings(), OPTIONS), "", "models", _choices()])
