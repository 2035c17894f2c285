"""Runs an experiment: its stages in order, finished ones skipped, drifted ones refused."""

import shutil
from pathlib import Path

import attrs

from seethrough.engine.files import tree_sha256, write_json
from seethrough.engine.launch import launch_stage, outer_rank
from seethrough.engine.plan import Plan, StagePlan, drift_message, make_plan, missing_inputs
from seethrough.engine.record import (
    STARTED,
    Artifact,
    StageRecord,
    experiment_folder,
    git_state,
    package_versions,
    write_record,
)
from seethrough.errors import InputError
from seethrough.recipe import Output
from seethrough.recipe.errors import nearest
from seethrough.recipe.load import Resolved


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
    outputs. `redo` (a stage, or `all`) deletes and makes again. `accept` keeps a drifted stage.
    Raises InputError before anything runs when a name, an input or a record is wrong.
    """
    plan = make_plan(resolved, runs)
    names = [stage.name for stage in plan.stages]
    for flag, name in (("only", only), ("from_stage", from_stage), ("accept", accept)):
        _check_name(flag, name, names)
    _check_name("redo", redo, [*names, "all"])
    chosen = _chosen(names, only, from_stage)
    problems = [p for p in missing_inputs(plan) if p.partition(".")[0] in chosen]
    if problems:
        raise InputError("\n".join([f"{resolved.name}: inputs are missing:", *problems]))
    for name in chosen:
        # Planned afresh: what the last stage made is part of this one's identity.
        plan = make_plan(resolved, runs)
        _run_stage(resolved, plan, name, runs, redo, accept)


def _chosen(names: list[str], only: str | None, from_stage: str | None) -> list[str]:
    if only is not None:
        return [only]
    if from_stage is not None:
        return names[names.index(from_stage) :]
    return names


def _run_stage(
    resolved: Resolved, plan: Plan, name: str, runs: Path, redo: str | None, accept: str | None
) -> None:
    stage = next(stage for stage in plan.stages if stage.name == name)
    main = outer_rank() == 0
    if redo in (name, "all"):
        if main:
            shutil.rmtree(stage.directory, ignore_errors=True)
    elif stage.drift:
        if accept != name:
            raise InputError(drift_message(stage))
        if main:
            _accept(stage)
        if stage.record is not None:
            return
    elif stage.record is not None:
        if main:
            print(f"{name}: {stage.state}", flush=True)
        return
    outputs = _outputs(plan, stage)
    if main:
        stage.directory.mkdir(parents=True, exist_ok=True)
        started = {
            "fingerprint": stage.fingerprint,
            "config": stage.config,
            "inputs": stage.inputs,
        }
        write_json(stage.directory / STARTED, started)
    launch_stage(resolved, stage, outputs, runs)


def _outputs(plan: Plan, stage: StagePlan) -> dict[Output, Path]:
    """Artifacts of the earlier stages. Raises InputError when one that is needed is not there."""
    found: dict[Output, Path] = {}
    for earlier in plan.stages:
        found.update(earlier.outputs())
    for source in stage.inputs:
        needed = [item for item in found if str(item) == source]
        if source.startswith("stage:") and not (needed and found[needed[0]].exists()):
            producer = source.removeprefix("stage:").partition("/")[0]
            raise InputError(
                f"{stage.name} needs {source}, which is not there: run {producer} first "
                f"(without --only, or --from_stage={producer}), or `adopt {producer} PATH`"
            )
    return found


def _accept(stage: StagePlan) -> None:
    if stage.record is None:
        write_json(
            stage.directory / STARTED,
            {"fingerprint": stage.fingerprint, "config": stage.config, "inputs": stage.inputs},
        )
        return
    accepted = (*stage.record.accepted, stage.fingerprint)
    write_record(stage.directory, attrs.evolve(stage.record, accepted=accepted))


def adopt(resolved: Resolved, runs: Path, stage: str, path: Path) -> None:
    """Let an outside file or folder stand in for a stage.

    A stage with one output takes `path` itself; one with several takes the files or folders of
    the outputs' names inside it. Raises InputError when something is not there.
    """
    plan = make_plan(resolved, runs)
    _check_name("adopt", stage, [item.name for item in plan.stages])
    target = next(item for item in plan.stages if item.name == stage)
    names = target.stage.outputs
    if not path.exists():
        raise InputError(f"adopt {stage}: {path} does not exist")
    found = {names[0]: path} if len(names) == 1 else {name: path / name for name in names}
    for name, place in found.items():
        if not place.exists():
            raise InputError(
                f"adopt {stage}: {place} does not exist; the stage makes {', '.join(names)}"
            )
    artifacts = {
        name: Artifact(path=str(place.resolve()), sha256=tree_sha256(place))
        for name, place in found.items()
    }
    identity = "adopted:" + ",".join(artifact.sha256 for artifact in artifacts.values())
    target.directory.mkdir(parents=True, exist_ok=True)
    write_record(
        target.directory,
        StageRecord(
            stage=stage,
            experiment=resolved.name,
            fingerprint=identity,
            config={},
            inputs={},
            artifacts=artifacts,
            metrics={},
            git=git_state(experiment_folder(resolved)),
            versions=package_versions(),
            seconds=0.0,
            adopted=True,
        ),
    )
    print(f"{stage}: adopted {path}")


def _check_name(flag: str, name: str | None, names: list[str]) -> None:
    if name is not None and name not in names:
        raise InputError(f"--{flag}={name}: no such stage; {nearest(name, names)}")
