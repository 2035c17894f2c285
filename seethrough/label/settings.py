"""What the flags of `python -m seethrough.label` say. Imports no torch."""

from pathlib import Path
from typing import Literal

import attrs

from seethrough.arguments import settings_help, take_settings
from seethrough.recipe import Execution, Hub, Local, RecipeError, Section, recipe

PROGRAM = "python -m seethrough.label"

EDIT = "edit"
"""The word that opens the page instead."""


@recipe
class LabelSettings(Section):
    """How characters are labelled."""

    sam: Hub | Local | None = None
    """Model of part masks that vote for each layer over its visible pixels: hub:REPO, file:PATH of
    a file of SemanticSam's weights, or file:FOLDER of a run of ours. Without it names alone
    decide."""

    tag_set: Literal["v2", "v3"] = "v3"
    """The tags to label with: v3 has hair and eyes in parts."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of the model; auto takes bf16 on a GPU and fp32 on a CPU."""

    device: Execution[Literal["auto", "cpu", "cuda"]] = "auto"
    """Where the model computes; auto takes CUDA when there is a GPU."""


@recipe
class EditSettings(Section):
    """How the page is served."""

    port: Execution[int] = 0
    """Port on this machine alone, 127.0.0.1; 0 takes a free one."""

    browser: Execution[bool] = False
    """Open the page in the browser of this machine."""


@attrs.frozen
class Command:
    """A command line taken apart."""

    root: Path
    """The folder of characters."""
    settings: LabelSettings | EditSettings


def parse(arguments: list[str]) -> Command:
    """Take a command line apart.

    Raises:
        RecipeError: for an unknown or repeated flag, a value of another kind, or when it isn't one
            folder that is named.
    """
    if arguments[:1] == [EDIT]:
        words, settings, _ = take_settings(arguments[1:], "seethrough.label", EditSettings())
    else:
        words, settings, _ = take_settings(arguments, "seethrough.label", LabelSettings())
    if len(words) != 1:
        found = " ".join(words) or "none"
        raise RecipeError(
            f"one folder of characters is expected, found {found}: {PROGRAM} [{EDIT}] FOLDER"
            " [--flags]; --help lists the flags"
        )
    return Command(Path(words[0]), settings)


def help_text() -> str:
    """What `--help` prints: every flag, what it accepts, its default, and what it means."""
    return f"""\
{PROGRAM} FOLDER [--flags]
{PROGRAM} {EDIT} FOLDER [--flags]

Labels the layers of all characters in a folder, as `python -m seethrough.ingest` makes it: which
part of the body each is, how sure that is, and what says so. They are in labels.json beside each
character.json, to be edited by hand or on the page that the second command opens.

What a person has labelled stays. What is done is skipped: the same command goes on after an
interruption, and makes anew what another model, tag set or version made.

Exit code: 0, 1 when a character failed, 2 when nothing could begin.

flags
{settings_help(LabelSettings(), {})}

flags of {EDIT}
{settings_help(EditSettings(), {})}"""
