"""What the flags of `python -m seethrough.ingest` say. Imports no torch."""

from pathlib import Path

import attrs

from seethrough.arguments import settings_help, take_settings
from seethrough.ingest.kinds import KINDS
from seethrough.recipe import PositiveInt, RecipeError, Section, recipe

PROGRAM = "python -m seethrough.ingest"

FOLDERS = {"out": ("FOLDER", "where the characters go; default: characters")}
"""Flags that name folders: what each takes, and what it means."""


@recipe
class IngestSettings(Section):
    """How sources are read."""

    licence: str | None = None
    """Under which terms the art may be used; it is kept with every character that is made now."""

    max_layers: PositiveInt = 5000
    """A source with more layers is refused."""

    max_megapixels: PositiveInt = 100
    """A source is refused whose canvas or any layer has more million pixels, or whose layers
    together have a hundred times as many. A PSD takes about 110 bytes of memory a pixel of its
    canvas, so 11 GB at this limit."""

    accept_live2d_licence: bool = False
    """You accept the terms of Live2D Cubism Core, without which Live2D models can't be read:
    https://www.live2d.com/eula/live2d-proprietary-software-license-agreement_en.html"""

    live2d_poses: tuple[str, ...] = ("rest", "open")
    """Characters to make of a Live2D model: rest; open, mouth open and eyes wide; expressions, all
    of its own; expression:NAME; or values, such as ParamAngleX=30+ParamAngleY=-10."""

    live2d_size: PositiveInt = 2048
    """Longest side in px of a Live2D model's canvas; smaller ones keep theirs."""

    live2d_pieces: bool = False
    """Keep apart the pieces into which a Live2D model's mesh was cut for skinning."""

    plan: bool = False
    """List what would be read, and read nothing."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    sources: tuple[Path, ...]
    settings: IngestSettings
    out: Path


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown or repeated flag, a value of another kind, and without source.
    """
    words, settings, folders = take_settings(
        arguments, "seethrough.ingest", IngestSettings(), FOLDERS
    )
    if not words:
        raise RecipeError(f"no source given: {PROGRAM} SOURCE... [--flags]; --help lists the flags")
    out = Path(folders.get("out", "characters"))
    return Command(tuple(Path(word) for word in words), settings, out)


def help_text() -> str:
    """What `--help` prints: the kinds of sources, and every flag."""
    kinds = "\n".join(f"  {kind.name:<10} {kind.what}" for kind in KINDS)
    return f"""\
{PROGRAM} SOURCE... [--flags]

Reads layered art into folders of one form, a character each. SOURCE is one of the kinds below, or
a folder that is searched for them.

{kinds}

What is there is skipped: after an interruption the same command goes on. A source that can't be
read is told with its reason, and the rest goes on.

Exit code: 0, 1 when a source failed, 2 when nothing could begin.

flags
{settings_help(IngestSettings(), FOLDERS)}"""
