"""The command line: `python -m seethrough.hub export|upload|download|list`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from seethrough.arguments import take_apart
from seethrough.commands import run_command
from seethrough.hub.settings import Download, Export, Listing, Upload
from seethrough.recipe import RecipeError, Section
from seethrough.recipe.base import facts
from seethrough.recipe.overrides import override
from seethrough.recipe.report import recipe_help

USAGE = {
    "export": "python -m seethrough.hub export RUN FOLDER [--flags]",
    "upload": "python -m seethrough.hub upload FOLDER|RUN REPO [--flags]",
    "download": "python -m seethrough.hub download REPO FOLDER [--flags]",
    "list": "python -m seethrough.hub list REPO|OWNER [--flags]",
}

Settings = TypeVar("Settings", bound=Section)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code, 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    return run_command(given or ["--help"], _help, _run)


def _help() -> str:
    upload = recipe_help(Upload()).replace("--private=false  (true or false)", "--private")
    return f"""\
{USAGE["export"]}
  Writes the model that a run trained, and all that it needs, as a folder in the published
  layout: for `decompose --layers=file:FOLDER`, for diffusers' loaders, for the hub.

{recipe_help(Export())}

{USAGE["upload"]}
  Commits such a folder, a run's model, or chosen files of any folder, to a repository REPO
  (OWNER/NAME) of the hub, which is made where there is none.

{upload}

{USAGE["download"]}
  Fetches a model of layers or depth, or chosen files of any repository, into a new folder.

{recipe_help(Download())}

{USAGE["list"]}
  Names the files of a repository with their sizes and hashes, or the models of an owner.

{recipe_help(Listing())}

An interrupted upload or download goes on with the same command. All that arrived is compared
with the hub's hashes. The token is that of `hf auth login`, or HF_TOKEN; it is neither printed
nor kept."""


def _run(arguments: list[str]) -> list[str]:
    print(_done(arguments))
    return []


def _done(arguments: list[str]) -> str:
    """Run a command; returns what to tell."""
    words, flags = take_apart(arguments, "seethrough.hub", switches=("private",))
    usages = [USAGE[words[0]]] if words and words[0] in USAGE else list(USAGE.values())
    wanted = 2 if words and words[0] == "list" else 3
    if len(words) != wanted or len(usages) > 1:
        raise RecipeError(f"given {' '.join(words) or 'nothing'}: write {', or '.join(usages)}")
    if words[0] == "list":
        from seethrough.hub.listing import listing

        return "\n".join(listing(words[1], _set(Listing(), flags).revision))
    command, source, target = words
    if command == "export":
        return _export(Path(source), Path(target), _set(Export(), flags))
    if command == "upload":
        return _upload(Path(source), target, flags)
    from seethrough.hub.download import download

    settings = _set(Download(), flags)
    return download(source, Path(target), settings.revision, settings.files)


def _export(run: Path, folder: Path, settings: Export) -> str:
    from seethrough.hub.runs import choose, write_model

    family, trained = choose(run, settings)
    write_model(trained, folder, settings)
    return f"{folder}: {family} of {trained.where}; --{family}=file:{folder} decomposes with it"


def _upload(source: Path, repo: str, flags: Mapping[str, str]) -> str:
    from seethrough.hub.upload import check_repo, find_family, upload

    settings = _set(Upload(), flags)
    if find_family(source) is None and not (settings.files and source.is_dir()):
        # Of all commands only what reads a run imports PyTorch.
        from seethrough.hub.runs import choose, written_model

        family, trained = choose(source, settings)
        check_repo(repo, family, settings)
        with written_model(trained, settings) as folder:
            return upload(folder, repo, settings)
    if of_runs := sorted(facts(Export).fields.keys() & flags.keys()):
        raise RecipeError(
            f"--{of_runs[0]}: {source} is exported already: leave it out, or give the run"
        )
    return upload(source, repo, settings)


def _set(settings: Settings, flags: Mapping[str, str]) -> Settings:
    return override(settings, flags.items())[0]


if __name__ == "__main__":
    sys.exit(main())
