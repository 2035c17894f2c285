"""What a run would do: each stage's state, machine and memory. Imports no torch."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import attrs

from seethrough.engine.drift import Drift, find_drift, find_inputs, make_identity
from seethrough.engine.environment import environment_of, settings
from seethrough.engine.memory import memory_lines
from seethrough.engine.record import Made, StageRecord, read_record, read_started
from seethrough.engine.sources import (
    HashCache,
    absent_local,
    find_local,
    hidden_notes,
    is_commit,
    sources,
)
from seethrough.recipe import Hub, Local, Output, Source, Stage
from seethrough.recipe.load import Resolved
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import DeepSpeed, TrainStage


@attrs.frozen
class StagePlan:
    """One stage: what is there, and what a run would do with it."""

    name: str
    stage: Stage
    directory: Path
    made: Made
    """What a run would make it with."""
    record: StageRecord | None
    started: Made | None
    """What a run that didn't finish was making it with."""
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
    environment: Environment
    rehearsal: bool

    def text(self, memory: bool = False) -> str:
        """The plan for a person; `memory` adds the bytes of each training stage."""
        lines = [f"{self.name} in {self.folder}"]
        if self.rehearsal:
            lines.append(
                "rehearsal: CPU-sized twin; pretrained bases are replaced with small ones "
                "that its own stages make"
            )
        lines.append(f"data roots: {', '.join(self.environment.data_roots) or 'none'}")
        lines.extend(f"environment: {setting}" for setting in settings(self.environment))
        outputs: dict[Output, Path] = {}
        for plan in self.stages:
            outputs.update(plan.outputs())
            lines.append(f"\n{plan.name}  [{plan.state}]  {_first_line(plan.stage)}")
            lines.extend(f"  {line}" for line in _stage_lines(plan, self.environment.data_roots))
            if memory and isinstance(plan.stage, TrainStage):
                lines.extend(f"  {line}" for line in memory_lines(plan.stage, outputs))
        return "\n".join(lines)


def make_plan(resolved: Resolved, runs: Path, redo: Collection[str] = ()) -> Plan:
    """Compare an experiment with what lies under `runs`; changes nothing.

    Of the stages in `redo`, what is there doesn't count. Raises InputError for a record that
    can't be read.
    """
    folder = runs / resolved.name
    environment = environment_of(resolved.experiment)
    roots = environment.data_roots
    cache = HashCache(runs)
    plans: list[StagePlan] = []
    for name, stage in resolved.stages.items():
        directory = folder / name
        record = started = checkpoint = None
        if name not in redo:
            record = read_record(directory)
            checkpoint = _newest_checkpoint(directory)
            started = read_started(directory) if checkpoint and record is None else None
        before = record or started
        earlier = {plan.name: (plan.made, plan.record) for plan in plans}
        made = make_identity(stage, find_inputs(stage, earlier, cache, before, roots), started)
        drift = () if before is None else find_drift(before, made)
        plans.append(StagePlan(name, stage, directory, made, record, started, drift, checkpoint))
    rehearsal = resolved.name.endswith("-rehearsal")
    return Plan(resolved.name, folder, tuple(plans), environment, rehearsal)


def _newest_checkpoint(directory: Path) -> str | None:
    """The newest checkpoint of training, or the last finished shard of a render."""
    for pattern, what in (("checkpoints/step-*", ""), ("shards/[0-9]*.json", "shard ")):
        names = sorted(path.stem for path in directory.glob(pattern))
        if names:
            return what + names[-1]
    return None


def _first_line(stage: Stage) -> str:
    return (type(stage).__doc__ or "").strip().splitlines()[0]


def _stage_lines(plan: StagePlan, roots: Sequence[str]) -> Iterator[str]:
    stage = plan.stage
    for path, source in sources(stage):
        note = _source_note(plan, path, source, roots)
        yield f"{path} = {source}" + (f"   {note}" if note else "")
    yield from hidden_notes(stage, roots)
    if isinstance(stage, TrainStage):
        hardware = stage.hardware
        yield (
            f"{stage.schedule.max_steps:,} steps of {stage.data.global_batch} samples = "
            f"{hardware.processes} processes x micro-batch {hardware.micro_batch} x "
            f"accumulation {stage.accumulation}; {hardware.device}, {stage.optim.precision}, "
            f"{type(stage.optim).__name__} lr {stage.peak_lr:g}"
        )
        yield f"distribution: {_distribution(stage.deepspeed)}"
    if plan.state == "resumes":
        yield f"resumes from {plan.checkpoint}"
    for drift in plan.drift:
        yield f"drift: {drift}"


def _source_note(plan: StagePlan, path: str, source: Source, roots: Sequence[str]) -> str | None:
    if isinstance(source, Local):
        found = find_local(source, roots)
        if not found:
            return "MISSING"
        return None if found[0] == Path(source.path) else f"at {found[0]}"
    made = None if plan.record is None else plan.record.inputs.get(path)
    if not isinstance(source, Hub) or made is None or made.content is None:
        return None
    follows = "" if is_commit(source) else f"; the recipe follows {source.revision or 'main'}"
    return f"made from commit {made.content[:12]}{follows}"


def _distribution(deepspeed: DeepSpeed) -> str:
    if deepspeed.zero_stage == 0:
        return "plain data parallel"
    spread = ("optimizer state", "gradients", "weights")[: deepspeed.zero_stage]
    offloaded = {
        "optimizer state": deepspeed.offload_optimizer,
        "weights": deepspeed.offload_parameters,
    }
    places = [
        f"; {what} offloaded to {place}" for what, place in offloaded.items() if place is not None
    ]
    return f"ZeRO-{deepspeed.zero_stage}, which spreads {', '.join(spread)}{''.join(places)}"


def missing_inputs(plan: Plan, chosen: Collection[str]) -> list[str]:
    """Inputs that a run of the chosen stages would not find, by field path."""
    stages = {stage.name: stage for stage in plan.stages}
    roots = plan.environment.data_roots
    missing: list[str] = []
    for name in chosen:
        if stages[name].record is not None:
            continue
        for path, source in sources(stages[name].stage):
            reason = None
            if isinstance(source, Local) and not find_local(source, roots):
                reason = absent_local(source, roots)
            elif isinstance(source, Output):
                reason = _no_output(stages[source.stage], source, chosen)
            if reason is not None:
                missing.append(f"{name}.{path}: {reason}")
    return missing


def _no_output(producer: StagePlan, source: Output, chosen: Collection[str]) -> str | None:
    path = producer.outputs().get(source)
    if path is not None and path.exists():
        return None
    if path is not None:
        what = "adopt it again" if producer.state == "adopted" else f"run --redo={source.stage}"
        return f"{source} is gone from {path}: {what}"
    if producer.name in chosen:
        return None
    return (
        f"{source} is not made yet: run {source.stage} first (--from_stage={source.stage}), or "
        f"`adopt {source.stage} PATH`"
    )


def drift_message(plan: Plan, drifted: list[StagePlan], redo: Collection[str]) -> str:
    """The account that stops a run at drifted stages."""
    parts = [
        f"{stage.directory}: this stage was made with other values:\n"
        + "".join(f"  {drift}\n" for drift in stage.drift)
        for stage in drifted
    ]
    name = drifted[0].name
    advice = (
        f"--redo={name} makes it again (what is there is deleted); --accept={name} keeps it as it "
        "is"
    )
    again = {stage.name for stage in drifted} | set(redo)
    if len(again) > 1:
        first = next(stage.name for stage in plan.stages if stage.name in again)
        advice += f"; --from_stage={first} --redo=all makes all again from there"
    return "".join(parts) + advice
