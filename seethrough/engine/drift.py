"""What a stage's result depends on, and how that differs from what it was made with."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from seethrough.engine.record import Input, Made, StageRecord
from seethrough.engine.sources import HashCache, hub_identity, local_identity, sources
from seethrough.recipe import Hub, Local, Output, Source, Stage
from seethrough.recipe.fingerprint import fingerprint
from seethrough.recipe.paths import flatten
from seethrough.recipe.text import show_value


@attrs.frozen
class Drift:
    """One value that differs from the one that a stage was made with."""

    path: str
    made_with: str
    now: str

    def __str__(self) -> str:
        return f"{self.path}: made with {self.made_with}, now {self.now}"


def make_identity(stage: Stage, inputs: dict[str, Input], started: Made | None) -> Made:
    """What a run would make a stage with; `inputs` by path.

    `started` is what an unfinished stage was being made with: what was accepted stays accepted.
    """
    implementation = type(stage).implementation
    extra = {path: given.identity for path, given in inputs.items()}
    return Made(
        fingerprint=fingerprint(stage, {"implementation": implementation, "inputs": extra}),
        config=_config(stage, inputs),
        inputs=inputs,
        accepted={} if started is None else started.accepted,
    )


def find_inputs(
    stage: Stage,
    earlier: Mapping[str, tuple[Made, StageRecord | None]],
    cache: HashCache,
    before: Made | StageRecord | None,
    roots: Sequence[str] = (),
) -> dict[str, Input]:
    """What a stage's result is made from, by path.

    `earlier` has the stages before it; `before` is what it was made with, if anything; `roots`
    are the data roots.
    """
    return {
        path: _find_input(
            source, earlier, cache, None if before is None else before.inputs.get(path), roots
        )
        for path, source in sources(stage, identity=True)
    }


def _find_input(
    source: Source,
    earlier: Mapping[str, tuple[Made, StageRecord | None]],
    cache: HashCache,
    known: Input | None,
    roots: Sequence[str],
) -> Input:
    if isinstance(source, Hub):
        return Input(str(source), hub_identity(source))
    if isinstance(source, Output):
        made, record = earlier[source.stage]
        if record is None:
            return Input(str(source), made.fingerprint)
        # What a finished stage made is known by the values that it was made with.
        artifact = record.artifacts.get(source.artifact)
        content = None if artifact is None else artifact.sha256
        return Input(str(source), record.fingerprint, content)
    identity = local_identity(source, cache, roots)
    if identity is None:
        # That an input is gone says nothing against what was made from it.
        identity = "absent" if known is None else known.identity
    return Input(str(source), identity)


def find_drift(before: Made | StageRecord, now: Made) -> tuple[Drift, ...]:
    """What differs between the values that a stage was made with and the present ones."""
    adopted = isinstance(before, StageRecord) and before.adopted
    if adopted or now.fingerprint in before.accepted:
        return ()
    found: list[Drift] = []
    if before.fingerprint != now.fingerprint:
        found = [
            Drift(path, before.config.get(path, "(absent)"), now.config.get(path, "(absent)"))
            for path in dict.fromkeys([*before.config, *now.config])
            if before.config.get(path) != now.config.get(path)
        ]
        found += _other_outputs(before, now, "identity")
        found = found or [Drift("implementation", "other code, by its name", "this")]
    return (*found, *(_other_outputs(before, now, "content") if not found else ()))


def _other_outputs(before: Made | StageRecord, now: Made, part: str) -> list[Drift]:
    """Outputs of earlier stages that are not those that a stage was made from."""
    found: list[Drift] = []
    for path, given in now.inputs.items():
        old, new = getattr(before.inputs.get(path), part, None), getattr(given, part)
        if given.source.startswith("stage:") and old and new and old != new:
            what = "fingerprint" if part == "identity" else "sha256"
            found.append(Drift(f"{path} ({what} of {given.source})", old[:16], new[:16]))
    return found


def _config(stage: Stage, inputs: Mapping[str, Input]) -> dict[str, str]:
    """What the result depends on, as text by path: of a local source its content."""

    def shown(path: str, value: Any) -> Any:
        if isinstance(value, Local):
            return Local(inputs[path].identity)
        if isinstance(value, tuple):
            elements = cast(tuple[Any, ...], value)
            return tuple(shown(f"{path}.{index}", item) for index, item in enumerate(elements))
        return value

    values = flatten(stage, identity=True)
    return {path: show_value(shown(path, value)) for path, value in values.items()}


def execution_values(stage: Stage) -> dict[str, str]:
    """The values that the identity leaves out, as text by path."""
    identity = flatten(stage, identity=True)
    every = flatten(stage)
    return {path: show_value(value) for path, value in every.items() if path not in identity}
