"""What a run would do: each stage's state, machine and memory. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from seethrough.engine.memory import memory_lines
from seethrough.engine.record import STARTED, StageRecord, read_json, read_record
from seethrough.engine.sources import HashCache, hub_identity, local_identity
from seethrough.recipe import Hub, Local, Output, Source, Stage
from seethrough.recipe.fingerprint import fingerprint
from seethrough.recipe.load import Resolved
from seethrough.recipe.paths import flatten, identity_values
from seethrough.recipes.training import TrainStage


@attrs.frozen
class Drift:
    """One value that differs from the one that a stage was made with."""

    path: str
    made_with: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.path}: made with {self.made_with}, now {self.now}"


@attrs.frozen
class StagePlan:
    """One stage: what is there, and what a run would do with it."""

    name: str
    stage: Stage
    directory: Path
    fingerprint: str
    config: dict[str, str]
    inputs: dict[str, str]
    record: StageRecord | None
    drift: tuple[Drift, ...]
    checkpoint: str | None

    @property
    def state(self) -> str:
        """done, adopted, drifted, resumes or to do."""
        if self.drift:
            return "drifted"
        if self.record is not None:
            return "adopted" if self.record.adopted else "done"
        return "resumes" if self.checkpoint else "to do"

    def outputs(self) -> dict[Output, Path]:
        """Where the artifacts of a finished stage lie."""
        if self.record is None:
            return {}
        return {
            Output(self.name, artifact): self.record.artifact_path(artifact, self.directory)
            for artifact in self.record.artifacts
        }


@attrs.frozen
class Plan:
    """All stages of an experiment under one folder of runs."""

    name: str
    folder: Path
    stages: tuple[StagePlan, ...]
    rehearsal: bool

    def text(self, memory: bool = False) -> str:
        """The plan for a person; `memory` adds the bytes of each training stage."""
        lines = [f"{self.name} in {self.folder}"]
        if self.rehearsal:
            lines.append(
                "rehearsal: CPU-sized twin; pretrained bases are replaced with small ones "
                "that its own stages make"
            )
        outputs: dict[Output, Path] = {}
        for plan in self.stages:
            outputs.update(plan.outputs())
            lines.append(f"\n{plan.name}  [{plan.state}]  {_first_line(plan.stage)}")
            lines.extend(f"  {line}" for line in _stage_lines(plan))
            if memory and isinstance(plan.stage, TrainStage):
                lines.extend(f"  {line}" for line in memory_lines(plan.stage, outputs))
        return "\n".join(lines)


def make_plan(resolved: Resolved, runs: Path) -> Plan:
    """Compare an experiment with what lies under `runs`; changes nothing."""
    folder = runs / resolved.name
    cache = HashCache(runs)
    identities: dict[str, str] = {}
    plans: list[StagePlan] = []
    for name, stage in resolved.stages.items():
        plan = _plan_stage(name, stage, folder / name, identities, cache)
        # What a finished stage made is known by the values that it was made with.
        identities[name] = plan.record.fingerprint if plan.record else plan.fingerprint
        plans.append(plan)
    return Plan(resolved.name, folder, tuple(plans), resolved.name.endswith("-rehearsal"))


def _plan_stage(
    name: str, stage: Stage, directory: Path, identities: dict[str, str], cache: HashCache
) -> StagePlan:
    inputs = {str(source): _identity(source, identities, cache) for _, source in sources(stage)}
    implementation = type(stage).implementation
    own = fingerprint(stage, extra={"implementation": implementation, "inputs": inputs})
    config = identity_values(stage)
    record = read_record(directory)
    drift: tuple[Drift, ...] = ()
    checkpoint = _newest_checkpoint(directory)
    if record is not None:
        if not record.agrees_with(own):
            drift = _drift(record.config, record.inputs, config, inputs)
    else:
        started = read_json(directory / STARTED)
        if started is not None and checkpoint and started["fingerprint"] != own:
            drift = _drift(started["config"], started["inputs"], config, inputs)
    return StagePlan(
        name=name,
        stage=stage,
        directory=directory,
        fingerprint=own,
        config=config,
        inputs=inputs,
        record=record,
        drift=drift,
        checkpoint=checkpoint,
    )


def sources(stage: Stage) -> Iterator[tuple[str, Source]]:
    """Every source that a stage names, with its field's path."""
    for path, value in flatten(stage).items():
        yield from _sources_in(path, value)


def _sources_in(path: str, value: Any) -> Iterator[tuple[str, Source]]:
    if isinstance(value, Hub | Local | Output):
        yield path, value
    elif isinstance(value, tuple):
        for item in value:
            yield from _sources_in(path, item)


def _identity(source: Source, identities: dict[str, str], cache: HashCache) -> str:
    if isinstance(source, Output):
        return identities[source.stage]
    if isinstance(source, Hub):
        return hub_identity(source)
    return local_identity(source, cache)


def _drift(
    old: dict[str, str], old_inputs: dict[str, str], new: dict[str, str], inputs: dict[str, str]
) -> tuple[Drift, ...]:
    found = [
        Drift(path, old.get(path, "(absent)"), new.get(path, "(absent)"))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]
    found += [
        Drift(f"content of {text}", old_inputs[text], inputs[text])
        for text in inputs
        if text in old_inputs and old_inputs[text] != inputs[text]
    ]
    return tuple(found) or (Drift("implementation", "another class or code name", "this one"),)


def _newest_checkpoint(directory: Path) -> str | None:
    names = sorted(path.name for path in directory.glob("checkpoints/step-*"))
    return names[-1] if names else None


def _first_line(stage: Stage) -> str:
    return (type(stage).__doc__ or "").strip().splitlines()[0]


def _stage_lines(plan: StagePlan) -> Iterator[str]:
    stage = plan.stage
    for path, source in sources(stage):
        missing = isinstance(source, Local) and not Path(source.path).exists()
        yield f"{path} = {source}" + ("   MISSING" if missing else "")
    if isinstance(stage, TrainStage):
        hardware = stage.hardware
        yield (
            f"{stage.schedule.max_steps:,} steps of {stage.data.global_batch} samples = "
            f"{hardware.processes} processes x micro-batch {hardware.micro_batch} x "
            f"accumulation {stage.accumulation}; {hardware.device}, {stage.optim.precision}, "
            f"{type(stage.optim).__name__} lr {stage.optim.lr:g}"
        )
    if plan.state == "resumes":
        yield f"resumes from {plan.checkpoint}"
    for drift in plan.drift:
        yield f"drift: {drift}"


def missing_inputs(plan: Plan) -> list[str]:
    """Local inputs that aren't there, by field path."""
    return [
        f"{stage.name}.{path}: {source.path} does not exist"
        for stage in plan.stages
        for path, source in sources(stage.stage)
        if isinstance(source, Local) and not Path(source.path).exists()
    ]


def drift_message(plan: StagePlan) -> str:
    """The account that stops a run at a drifted stage."""
    lines = "\n".join(f"  {drift}" for drift in plan.drift)
    return (
        f"{plan.directory}: this stage was made with other values:\n{lines}\n"
        f"--redo={plan.name} makes it again (what is there is deleted); "
        f"--accept={plan.name} keeps it as it is"
    )
