"""An experiment from its file to the form that runs: loaded, overridden, rehearsed, resolved."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from seethrough.recipe.base import Origin, Recipe, is_required
from seethrough.recipe.errors import RecipeError, nearest
from seethrough.recipe.experiment import Experiment, Stage
from seethrough.recipe.experiment_file import load_class
from seethrough.recipe.kinds import describe
from seethrough.recipe.merge import EVOLVED
from seethrough.recipe.origins import Given, Reference, children, defaults_of, trace
from seethrough.recipe.overrides import override
from seethrough.recipe.paths import flatten, unshare, walk
from seethrough.recipe.record import from_record
from seethrough.recipe.tracked import unobserved
from seethrough.recipe.values import Output


@attrs.frozen
class Draft:
    """An experiment whose values may be incomplete or at odds with each other."""

    experiment: Experiment
    name: str
    """Stem of the experiment's file; a rehearsal adds `-rehearsal`."""
    file: Path | None
    origins: Mapping[str, Origin]
    """Who set the value at each path."""
    flags: tuple[tuple[str, str], ...] = ()
    """The overrides in it, as (path, text)."""

    def values(self) -> dict[str, Any]:
        """Values by path; see `flatten`."""
        return flatten(self.experiment)

    def override(self, flags: Iterable[tuple[str, str]]) -> "Draft":
        """The draft with (path, text) pairs applied."""
        flags = tuple(flags)
        changed, given = override(self.experiment, flags)
        known = [Reference(self.experiment, self.origins)]
        origins = trace(changed, Origin("command line"), given, known)
        return attrs.evolve(self, experiment=changed, origins=origins, flags=(*self.flags, *flags))

    def rehearsal(self) -> "Draft":
        """The CPU-sized twin; what the rule changed has the rule's lines as origin."""
        rule = type(self.experiment).rehearsal.__code__
        here = Origin(rule.co_qualname, rule.co_filename, rule.co_firstlineno)
        EVOLVED.start()
        try:
            with unobserved():
                twin = self.experiment.rehearsal()
            given = _evolved(twin)
        finally:
            EVOLVED.stop()
        known = [Reference(self.experiment, self.origins), defaults_of(type(twin))]
        return Draft(
            experiment=twin,
            name=f"{self.name}-rehearsal",
            file=self.file,
            origins=trace(twin, here, given, known),
            flags=self.flags,
        )

    def resolve(self) -> "Resolved":
        """The checked experiment; raises `RecipeError` with every problem by path."""
        problems = list(_problems(self.experiment))
        if problems:
            lines = "".join(f"\n  {path}: {what}" for path, what in problems)
            count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
            raise RecipeError(f"{self.name}: {count}{lines}")
        whole = unshare(self.experiment)
        assert isinstance(whole, Experiment)
        return Resolved(whole, self.name, self.file, self.origins, self.flags)


@attrs.frozen
class Resolved(Draft):
    """An experiment that is complete and whose checks hold; no two places share a section."""

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages by name, in the order in which they run."""
        return self.experiment.stages()


def load(file: str | Path) -> Draft:
    """Load an experiment's file, which defines exactly one experiment class."""
    path = Path(file)
    cls = load_class(path)
    default = defaults_of(cls)
    return Draft(cls(), path.stem, path, default.origins)


def draft(experiment: Experiment, name: str) -> Draft:
    """A draft of an experiment that was made in Python."""
    here = Origin(f"{type(experiment).__name__}(...)")
    origins = trace(experiment, here, {}, [])
    return Draft(experiment, name, None, origins)


def resolve(experiment: Experiment | Draft, name: str = "experiment") -> Resolved:
    """Check an experiment as a whole; raises `RecipeError` with every problem by path."""
    made = draft(experiment, name) if isinstance(experiment, Experiment) else experiment
    return made.resolve()


def _evolved(value: Any) -> dict[str, Given]:
    """The assignments that `evolve` made below a value while the rule ran."""
    lines = EVOLVED.of(value) if isinstance(value, Recipe) else {}
    below = {name: _evolved(child) for name, child in (children(value) or {}).items()}
    return {
        name: Given(lines.get(name), inner)
        for name, inner in below.items()
        if inner or name in lines
    }


def _problems(experiment: Experiment) -> Iterator[tuple[str, str]]:
    missing: list[str] = []
    for node in walk(experiment):
        if is_required(node.value):
            missing.append(node.path)
            yield (
                node.path,
                f"REQUIRED has no value yet; accepted: {describe(node.field.kind)}; "
                f"give --{node.path}=... or set it in the experiment",
            )
    yield from _output_problems(experiment)
    recipes = [("", experiment)] + [
        (f"{node.path}.", node.value) for node in walk(experiment) if isinstance(node.value, Recipe)
    ]
    for prefix, recipe in recipes:
        if not any(path.startswith(prefix) for path in missing):
            with unobserved():
                found = list(recipe.check())
            yield from ((prefix + path, what) for path, what in found)


def _output_problems(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Outputs that no earlier stage makes."""
    stages = experiment.stages()
    order = list(stages)
    for node in walk(experiment):
        sources = cast(tuple[Any, ...], node.value if node.is_tuple else (node.value,))
        for source in sources:
            if not isinstance(source, Output):
                continue
            holder = node.path.partition(".")[0]
            earlier = order[: order.index(holder)] if holder in order else order
            if source.stage not in order:
                yield node.path, f"{source} names no stage; {nearest(source.stage, earlier)}"
            elif source.stage not in earlier:
                yield (
                    node.path,
                    f"{source} does not run before {holder}; "
                    f"earlier stages: {', '.join(earlier) or 'none'}",
                )
            elif source.artifact not in type(stages[source.stage]).outputs:
                made = type(stages[source.stage]).outputs
                yield node.path, f"{source} is no output; {nearest(source.artifact, made)}"


def reload_recorded(record: Any, name: str, file: str | Path | None) -> Resolved:
    """The experiment of a record; `file` is loaded first, as it may define the class.

    All origins name the record: it keeps values, not who set them.
    """
    if file is not None:
        load_class(Path(file))
    experiment = from_record(record)
    if not isinstance(experiment, Experiment):
        raise RecipeError(f"record: holds {type(experiment).__name__}, which is no experiment")
    made = draft(experiment, name)
    return attrs.evolve(made, file=None if file is None else Path(file)).resolve()
