"""Runs an experiment: its stages in order, finished ones skipped, drifted ones refused."""

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seethrough.engine.drift import execution_values
from seethrough.engine.environment import apply, environment_of
from seethrough.engine.files import remove_tree, tree_sha256
from seethrough.engine.launch import launch_stage
from seethrough.engine.plan import Plan, StagePlan, drift_message, make_plan, missing_inputs
from seethrough.engine.ranks import (
    FAILURE,
    check_launcher,
    everywhere,
    part,
    process_state,
    rank,
    world,
)
from seethrough.engine.record import (
    Artifact,
    StageRecord,
    git_state,
    package_versions,
    write_record,
    write_started,
)
from seethrough.engine.sources import hidden_notes
from seethrough.errors import InputError
from seethrough.recipe import Output, flatten, show_value
from seethrough.recipe.errors import nearest
from seethrough.recipe.load import Resolved
from seethrough.recipes.training import TrainStage

if TYPE_CHECKING:
    from seethrough.engine.execute import Finished


@attrs.frozen
class Choice:
    """Which stages to run, to delete first, and to keep although they drifted."""

    chosen: tuple[str, ...]
    redo: frozenset[str]
    accept: frozenset[str]


def run(
    resolved: Resolved,
    runs: Path,
    only: str | None = None,
    from_stage: str | None = None,
    redo: str | None = None,
    accept: str | None = None,
) -> None:
    """Run what is not done yet.

    `only` runs one stage, `from_stage` that one and all after it; both need the earlier stages'
    outputs. `redo` (a stage, or `all` that are chosen) deletes and makes again. `accept`
    (likewise) keeps drifted stages. Raises InputError before anything runs when a name, an input
    or a record is wrong, or when a stage has drifted.

    Under an outer launcher every process calls this: the main one alone plans, prints and writes.
    """
    check_launcher()
    choice = _choose(list(resolved.stages), only, from_stage, redo, accept)
    for setting in apply(environment_of(resolved.experiment)):
        if rank() == 0:
            print(f"environment: {setting}", flush=True)
    if world() > 1:
        _join(resolved, choice)
    everywhere(lambda: _check(resolved, runs, choice))
    redo_left = set(choice.redo)
    for name in choice.chosen:
        # Planned afresh: what the last stage made is part of this one's identity. Other ranks
        # wait here until the main one has written the last stage's record.
        prepared = everywhere(lambda name=name: _prepare(resolved, runs, name, redo_left, choice))
        redo_left.discard(name)
        if prepared is not None:
            _run_stage(resolved, *prepared)
    part()


def _choose(
    names: list[str],
    only: str | None,
    from_stage: str | None,
    redo: str | None,
    accept: str | None,
) -> Choice:
    _check_name("only", only, names)
    _check_name("from_stage", from_stage, names)
    chosen = names
    if only is not None:
        chosen = [only]
    elif from_stage is not None:
        chosen = names[names.index(from_stage) :]
    _check_name("redo", redo, [*chosen, "all"])
    _check_name("accept", accept, [*chosen, "all"])

    def meant(name: str | None) -> frozenset[str]:
        return frozenset(chosen if name == "all" else [] if name is None else [name])

    return Choice(tuple(chosen), meant(redo), meant(accept))


def _join(resolved: Resolved, choice: Choice) -> None:
    from seethrough.engine.execute import device_section, on_cpu

    stages = [resolved.stages[name] for name in choice.chosen]
    training = [stage for stage in stages if isinstance(stage, TrainStage)]
    process_state(all(on_cpu(device_section(stage)) for stage in training or stages))


def _check(resolved: Resolved, runs: Path, choice: Choice) -> None:
    """Raise InputError for whatever is known to stop the run on its way."""
    from seethrough.engine.tracking import check_tracker

    plan = make_plan(resolved, runs, choice.redo)
    missing = missing_inputs(plan, choice.chosen)
    if missing:
        raise InputError("\n  ".join([f"{resolved.name}: inputs are missing:", *missing]))
    chosen = [stage for stage in plan.stages if stage.name in choice.chosen]
    drifted = [stage for stage in chosen if stage.drift and stage.name not in choice.accept]
    if drifted:
        raise InputError(drift_message(plan, drifted, choice.redo))
    for stage in chosen:
        if stage.record is None and isinstance(stage.stage, TrainStage):
            check_tracker(stage.name, stage.stage.tracking.tracker)


def _prepare(
    resolved: Resolved, runs: Path, name: str, redo: set[str], choice: Choice
) -> tuple[StagePlan, dict[Output, Path]] | None:
    """Settle what becomes of a stage; None when it is done."""
    plan = make_plan(resolved, runs, redo)
    stage = next(stage for stage in plan.stages if stage.name == name)
    if stage.drift:
        if name not in choice.accept:
            raise InputError(drift_message(plan, [stage], redo))
        stage = _accept(stage)
    if stage.record is not None:
        print(f"{name}: {stage.state}", flush=True)
        return None
    missing = missing_inputs(plan, [name])
    if missing:
        raise InputError("\n".join(missing))
    for note in hidden_notes(stage.stage, plan.environment.data_roots):
        print(f"{name}: {note}", flush=True)
    _clear(stage, redo=name in redo)
    write_started(stage.directory, stage.made)
    return stage, _outputs(plan)


def _clear(stage: StagePlan, redo: bool) -> None:
    """Leave nothing of an earlier try but what the stage resumes from."""
    try:
        if redo or not stage.stage.resumes:
            remove_tree(stage.directory)
        stage.directory.mkdir(parents=True, exist_ok=True)
        (stage.directory / FAILURE).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{stage.directory}: can't make room for {stage.name}: {error}") from error


def _outputs(plan: Plan) -> dict[Output, Path]:
    return {source: path for stage in plan.stages for source, path in stage.outputs().items()}


def _run_stage(resolved: Resolved, plan: StagePlan, outputs: dict[Output, Path]) -> None:
    from seethrough.engine.execute import Work

    # The code as it is when the stage starts: it may be edited while the stage runs.
    git = git_state() if rank() == 0 else {}
    work = Work(
        name=plan.name,
        stage=resolved.stages[plan.name],
        directory=plan.directory,
        outputs=outputs,
        data_roots=environment_of(resolved.experiment).data_roots,
    )
    finished = launch_stage(work, resolved.file)
    if finished is not None:
        write_record(plan.directory, _record(resolved, plan, finished, git))
        done = f"{plan.name}: done in {finished.seconds:.0f} s"
        print(done + _metrics_text(finished.result.metrics), flush=True)


def _record(
    resolved: Resolved, plan: StagePlan, finished: "Finished", git: dict[str, str]
) -> StageRecord:
    artifacts = {
        name: Artifact(path.relative_to(plan.directory).as_posix(), tree_sha256(path))
        for name, path in finished.result.artifacts.items()
    }
    return StageRecord(
        stage=plan.name,
        experiment=resolved.name,
        fingerprint=plan.made.fingerprint,
        config=plan.made.config,
        execution=execution_values(plan.stage),
        environment={
            path: show_value(value)
            for path, value in flatten(environment_of(resolved.experiment)).items()
        },
        inputs={
            path: attrs.evolve(given, content=finished.commits.get(given.source, given.content))
            for path, given in plan.made.inputs.items()
        },
        artifacts=artifacts,
        metrics=finished.result.metrics,
        git=git,
        versions=package_versions(),
        seconds=round(finished.seconds, 3),
        accepted=plan.made.accepted,
    )


def _accept(stage: StagePlan) -> StagePlan:
    """Note what the user accepted: in the record, or for the rest of an unfinished stage."""
    before = stage.record or stage.started
    assert before is not None
    lines = [str(drift) for drift in stage.drift]
    accepted = {**before.accepted, stage.made.fingerprint: lines}
    if stage.record is not None:
        record = attrs.evolve(stage.record, accepted=accepted)
        write_record(stage.directory, record)
        return attrs.evolve(stage, record=record, drift=())
    return attrs.evolve(stage, made=attrs.evolve(stage.made, accepted=accepted), drift=())


def adopt(resolved: Resolved, runs: Path, stage: str, path: Path) -> None:
    """Let an outside file or folder stand in for a stage.

    A stage with one output takes `path` itself; one with several takes the files or folders of
    the outputs' names inside it. Raises InputError when something is not there, or when the stage
    has a result of its own.
    """
    _check_name("adopt", stage, list(resolved.stages))
    target = next(item for item in make_plan(resolved, runs).stages if item.name == stage)
    names = target.stage.outputs
    if not path.exists():
        raise InputError(f"adopt {stage}: {path} does not exist")
    found = {names[0]: path} if len(names) == 1 else {name: path / name for name in names}
    absent = [place for place in found.values() if not place.exists()]
    if absent:
        raise InputError(
            f"adopt {stage}: {absent[0]} does not exist; the stage makes {', '.join(names)}"
        )
    if (target.record is not None and not target.record.adopted) or target.checkpoint:
        raise InputError(
            f"adopt {stage}: {target.directory} holds what the stage made itself: move or delete "
            "that folder first"
        )
    artifacts = {
        name: Artifact(path=str(place.resolve()), sha256=tree_sha256(place))
        for name, place in found.items()
    }
    target.directory.mkdir(parents=True, exist_ok=True)
    identity = "adopted:" + ",".join(artifact.sha256 for artifact in artifacts.values())
    record = StageRecord(
        stage=stage,
        experiment=resolved.name,
        fingerprint=identity,
        config={},
        execution={},
        inputs={},
        artifacts=artifacts,
        metrics={},
        git=git_state(),
        versions=package_versions(),
        seconds=0.0,
        adopted=True,
    )
    write_record(target.directory, record)
    print(f"{stage}: adopted {path}")


def _check_name(flag: str, name: str | None, names: list[str]) -> None:
    if name is not None and name not in names:
        raise InputError(f"--{flag}={name}: no such stage here; {nearest(name, names)}")


def _metrics_text(metrics: dict[str, float]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in metrics.items() if "/" not in name]
    return "; " + ", ".join(shown) if shown else ""
