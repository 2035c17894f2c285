"""What a run trained, and from what: found by its records, for programs that use a run's models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from seethrough.engine.hub import MODEL_FILES
from seethrough.engine.record import StageRecord, read_record, read_started
from seethrough.engine.sources import fetch, is_commit
from seethrough.errors import InputError
from seethrough.models.checkpoints import read_config
from seethrough.recipe import Hub, Output, Source
from seethrough.recipe.text import parse

UNET = "unet"
"""Name of the artifact that training a UNet leaves."""

FRAME_UNET = "UNetFrameConditionModel"

TRANSFORMER = "transformer"
"""Name of the artifact that training a transformer leaves."""


@attrs.frozen(eq=False)
class Trained:
    """A 3D UNet or a transformer that a stage of a run trained."""

    run: Path
    record: StageRecord

    @property
    def where(self) -> str:
        """What messages call the stage."""
        return f"{self.run}/{self.record.stage}"

    @property
    def unet(self) -> Path:
        """The UNet's folder."""
        return self.record.artifact_path(UNET, self.run / self.record.stage)

    @property
    def transformer(self) -> Path:
        """The transformer's folder."""
        return self.record.artifact_path(TRANSFORMER, self.run / self.record.stage)

    @property
    def is_layerdiff(self) -> bool:
        """Whether the UNet predicts layers; else it predicts their depth."""
        return "model.transparent_vae" in self.record.inputs

    def input(self, field: str, reads: Sequence[str] = MODEL_FILES) -> Path:
        """Where an input of the training lies, such as `model.base`; fetched from the hub if need
        be, at the commit that the stage was made with: what `reads` says, as of `download`.

        Raises:
            InputError: when it is gone.
        """
        given = self.record.inputs[field]
        source = cast(Source, parse(Source, given.source))
        where = f"{self.where}: {field}"
        if isinstance(source, Hub):
            if given.content is not None and not is_commit(source):
                source = Hub(source.repo, given.content)
            return fetch(source, where, {}, reads=reads)
        if not isinstance(source, Output):
            return fetch(source, where, {}, reads=reads)
        folder = self.run / source.stage
        record = read_record(folder)
        if record is None or source.artifact not in record.artifacts:
            raise InputError(f"{where}: {folder} holds no {source.artifact}: run that stage again")
        path = record.artifact_path(source.artifact, folder)
        if not path.exists():
            raise InputError(f"{where}: {path} is gone: run --redo={source.stage}")
        return path

    def lineage(self) -> list[StageRecord]:
        """The run's finished stages that it comes from, those that others start from first, and
        its own last."""
        found: dict[str, StageRecord] = {}
        _follow(self.run, self.record, found)
        return list(found.values())

    def config(self, field: str) -> str | None:
        """A value of the training stage as text, None if the stage has no such field."""
        return self.record.config.get(field)


def trained_unets(run: Path) -> list[Trained]:
    """The 3D UNets that the finished stages of a run trained, one a family.

    Of stages that go on from each other the last one counts.

    Raises:
        InputError: when the folder is no run, or has several of one family.
    """
    records = _records(run)
    found = [Trained(run, record) for record in records.values() if _trains_frames(run, record)]
    sources = [given.source for one in found for given in one.record.inputs.values()]
    last = [one for one in found if f"stage:{one.record.stage}/{UNET}" not in sources]
    for family in (True, False):
        same = [one.record.stage for one in last if one.is_layerdiff is family]
        if len(same) > 1:
            raise InputError(
                f"{run}: {' and '.join(same)} each trained a 3D UNet of one family: copy the one"
                " that you mean into a run's folder of its own"
            )
    return last


def trained_transformer(run: Path) -> Trained:
    """The transformer that the finished stages of a run trained.

    Of stages that go on from each other the last one counts.

    Raises:
        InputError: when the folder is no run, or has none or several.
    """
    records = _records(run).values()
    found = [Trained(run, record) for record in records if _trains_transformer(record)]
    sources = [given.source for one in found for given in one.record.inputs.values()]
    last = [one for one in found if f"stage:{one.record.stage}/{TRANSFORMER}" not in sources]
    if not last:
        raise InputError(f"{run}: no finished stage trained a transformer: run one first")
    if len(last) > 1:
        raise InputError(
            f"{run}: {' and '.join(one.record.stage for one in last)} each trained a transformer:"
            " copy the one that you mean into a run's folder of its own"
        )
    return last[0]


def stage_config(run: Path, stage: str) -> Mapping[str, str]:
    """Values of a stage of the run as text by path, finished or not; empty if it never began."""
    made = read_record(run / stage) or read_started(run / stage)
    return {} if made is None else made.config


def _follow(run: Path, record: StageRecord, found: dict[str, StageRecord]) -> None:
    for given in record.inputs.values():
        source = cast(Source, parse(Source, given.source))
        if isinstance(source, Output) and source.stage not in found:
            earlier = read_record(run / source.stage)
            if earlier is not None:
                _follow(run, earlier, found)
    found[record.stage] = record


def _records(run: Path) -> dict[str, StageRecord]:
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; give a run's, such as runs/layerdiff3d_v3")
    folders = sorted(path for path in run.iterdir() if path.is_dir())
    found = {folder.name: read_record(folder) for folder in folders}
    records = {name: record for name, record in found.items() if record is not None}
    if not records:
        raise InputError(
            f"{run}: no finished stage of a run lies there; give a run's folder, such as"
            " runs/layerdiff3d_v3"
        )
    return records


def _trains_frames(run: Path, record: StageRecord) -> bool:
    """Whether the stage trained a 3D UNet: it has one, and what it was trained with."""
    if UNET not in record.artifacts or "model.base" not in record.inputs:
        return False
    config: dict[str, Any] = read_config(record.artifact_path(UNET, run / record.stage))
    return config.get("_class_name") == FRAME_UNET


def _trains_transformer(record: StageRecord) -> bool:
    """Whether the stage trained a transformer, given a base and the prompt."""
    return TRANSFORMER in record.artifacts and {"model.base", "model.prompt"} <= set(record.inputs)
