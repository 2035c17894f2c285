"""An experiment at a test's size, run whole in this process: what it left, and what it read."""

import json
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import attrs
import torch

from seethrough.engine.plan import make_plan
from seethrough.engine.runner import run
from seethrough.recipe import Draft, Resolved, flatten, tracked_reads

Flags = Mapping[str, object]
"""Values by path, as on the command line."""


@attrs.frozen
class Run:
    """A finished run."""

    resolved: Resolved
    folder: Path
    unread: frozenset[str]
    """Paths of the recipe that nothing read."""

    def record(self, stage: str) -> dict[str, Any]:
        """What a stage left of itself."""
        return record(self.folder, stage)

    def metrics(self, stage: str) -> dict[str, float]:
        """What it measured."""
        return self.record(stage)["metrics"]

    def artifact(self, stage: str, name: str) -> Path:
        """What it made."""
        return self.folder / stage / self.record(stage)["artifacts"][name]["path"]

    def unread_beyond(self, excused: Iterable[str]) -> list[str]:
        """Paths that nothing read and no pattern excuses."""
        return sorted(p for p in self.unread if not any(fnmatch(p, e) for e in excused))

    def excused_in_vain(self, excused: Iterable[str]) -> list[str]:
        """Patterns that excuse nothing: all they name is read after all."""
        return [e for e in excused if not any(fnmatch(p, e) for p in self.unread)]

    def copied(self, runs: Path, *stages: str) -> Path:
        """Its folder with these finished stages alone, below `runs`."""
        folder = runs / self.folder.name
        for stage in stages:
            shutil.copytree(self.folder / stage, folder / stage)
        return folder

    def resumed(self, runs: Path, stage: str) -> dict[str, Any]:
        """The record of a stage that was killed after its last checkpoint but one, and run again.

        All in a copy below `runs`.
        """
        names = list(self.resolved.stages)
        folder = self.copied(runs, *names[: names.index(stage) + 1])
        for artifact in self.record(stage)["artifacts"].values():
            shutil.rmtree(folder / stage / artifact["path"])
        (folder / stage / "record.json").unlink()
        *_, last = sorted((folder / stage / "checkpoints").iterdir())
        shutil.rmtree(last)
        run(self.resolved, runs, only=stage)
        return record(folder, stage)


def record(folder: Path, stage: str) -> dict[str, Any]:
    """What a stage left of itself in the folder of a run."""
    return json.loads((folder / stage / "record.json").read_text())


def resolve(draft: Draft, flags: Flags) -> Resolved:
    """An experiment with values of a test."""
    return draft.override([(path, str(value)) for path, value in flags.items()]).resolve()


def words(flags: Flags) -> list[str]:
    """The same values for a command line."""
    return [f"--{path}={value}" for path, value in flags.items()]


def run_whole(resolved: Resolved, runs: Path) -> Run:
    """Run all stages. Reads in other processes are not seen."""
    torch.set_num_threads(1)
    with tracked_reads(resolved.experiment) as reads:
        run(resolved, runs)
        # Also the account of memory, the one reader of a device's size.
        make_plan(resolved, runs).text(memory=True)
    # The stages themselves the language hands to the engine by name.
    fields = set(flatten(resolved.experiment)) - set(resolved.stages)
    return Run(resolved, runs / resolved.name, frozenset(fields - reads))


def relative_distance(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float:
    """How far apart two networks' weights are, as a share of the first's norm."""
    assert one.keys() == two.keys()
    size = sum(float(value.norm()) ** 2 for value in one.values()) ** 0.5
    apart = sum(float((value - two[name]).norm()) ** 2 for name, value in one.items()) ** 0.5
    return apart / size
