"""The stage that writes a run's models small enough to be shipped, with what they reach.

It lies here because it reads the run's records, as every export of a run does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import attrs
import torch

from seethrough.decompose.export import export
from seethrough.engine.files import write_json, write_text
from seethrough.engine.record import StageRecord, read_record
from seethrough.engine.sources import sources
from seethrough.engine.trained import Trained
from seethrough.errors import InputError
from seethrough.metrics.table import LOWER_IS_BETTER, OVERALL, format_value
from seethrough.recipe import Local, Output, Source, Stage, evolve
from seethrough.recipe.overrides import override
from seethrough.recipes.layerdiff import Decompose
from seethrough.recipes.marigold import OrderLayers
from seethrough.recipes.pack import Pack
from seethrough.tasks.decompose import decompose_stage, metric_name
from seethrough.tasks.decompose_scores import CEILING, CHAIN, MEAN, NEAREST
from seethrough.tasks.depth_order import CEILING as DEPTH_CEILING
from seethrough.tasks.depth_order import DEPTH, MODEL, TAGS, TAGS_AND_PAGE, depth_order_stage
from seethrough.tasks.task import StageContext, StageResult

Measured: TypeAlias = Mapping[str, Mapping[str, float]]
"""Metrics of a measuring stage: of the model as `trained`, and as `packed`."""

StageT = TypeVar("StageT", bound=Stage)

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

SHIPPED = "seethrough/avatars_model"
"""Where `decompose --model=avatars` finds its models."""


def pack_stage(stage: Pack, context: StageContext) -> StageResult:
    """Write `layers`, `depth` if there is one, `scores.json` and `README.md` into `model`.

    Raises:
        InputError: when that takes more than the stage allows, or a part of a model is gone.
    """
    run = context.directory.parent
    model = context.directory / "model"
    shutil.rmtree(model, ignore_errors=True)  # what an interrupted attempt left
    model.mkdir(parents=True)
    for name, source in (("layers", stage.layers), ("depth", stage.depth)):
        if source is not None:
            export(_finished(run, source), model / name, DTYPES[stage.precision])
    megabytes = _megabytes(model)
    if megabytes > stage.limit_mb:
        parts = ", ".join(
            f"{path.relative_to(model)} {_megabytes(path):.1f}"
            for path in sorted(model.glob("*/*"))
            if path.is_dir()
        )
        raise InputError(
            f"{context.name}: the models take {megabytes:.1f} MB ({parts}), but limit_mb is "
            f"{stage.limit_mb:g}: make the networks narrower"
        )
    packed = model / "layers"
    # The baselines of layers don't depend on the model.
    others = {"unet": packed, "base": packed, "transparent_vae": packed, "known": None}
    measured = _finished(run, stage.layers_measured)
    metrics = _measure(measured, Decompose(), decompose_stage, context, others)
    scores: dict[str, Measured] = {
        "layers": {"trained": measured.record.metrics, "packed": metrics}
    }
    if stage.depth_measured is not None:
        packed = model / "depth"
        others = {"unet": packed, "base": packed}
        ordered = _finished(run, stage.depth_measured)
        again = _measure(ordered, OrderLayers(), depth_order_stage, context, others)
        scores["depth"] = {"trained": ordered.record.metrics, "packed": again}
        metrics = metrics | again
    write_json(model / "scores.json", scores)
    write_text(model / "README.md", _card(measured.record.experiment, stage.precision, scores))
    context.report(
        f"{context.name}: {model}, {megabytes:.1f} MB; to ship it: cp -r {model}/. {SHIPPED}/"
    )
    return StageResult({"model": model}, {"megabytes": megabytes, **metrics})


def recorded(default: StageT, record: StageRecord) -> StageT:
    """A stage with the values that its record has."""
    texts = {**record.config, **record.execution}
    texts |= {field: given.source for field, given in record.inputs.items()}
    return override(default, texts.items())[0]


def _finished(run: Path, source: Source) -> Trained:
    """The finished stage of a run that an output is of."""
    stage = cast(Output, source).stage
    record = read_record(run / stage)
    if record is None:
        raise InputError(f"{run / stage}: not finished: run that stage first")
    return Trained(run, record)


def _measure(
    measured: Trained,
    default: StageT,
    function: Callable[[StageT, StageContext], StageResult],
    context: StageContext,
    others: Mapping[str, Path | None],
) -> dict[str, float]:
    """Run a measuring stage as it is recorded, with other inputs; returns its metrics."""
    stage = recorded(default, measured.record)
    paths = {
        source: measured.input(field) for field, source in sources(stage) if field not in others
    }
    given = {field: None if path is None else Local(str(path)) for field, path in others.items()}
    paths |= {source: Path(source.path) for source in given.values() if source is not None}
    directory = context.directory / measured.record.stage
    directory.mkdir(exist_ok=True)
    name = f"{context.name}/{measured.record.stage}"
    inner = attrs.evolve(context, name=name, directory=directory, paths=paths)
    return function(evolve(stage, **given), inner).metrics


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _card(experiment: str, precision: str, scores: Mapping[str, Measured]) -> str:
    """The text of README.md."""
    flags = " ".join(f"--{name}=file:{name}" for name in scores)
    depth = ", `depth` puts its parts in drawing order" if "depth" in scores else ""
    text = f"""\
# {experiment}

Small models of the embedded characters, laid out as the published ones: `layers` takes a picture
apart{depth}. They know no other pictures.

```
python -m seethrough.decompose picture.png {flags}
python -m seethrough.run experiments/{experiment}.py    # how they were made and measured
```

`trained` are the models in float32, `packed` those that lie here, with weights in {precision}. All
numbers are in `scores.json`.

## Layers

{_table(scores["layers"], CHAIN, (MEAN, NEAREST, CEILING), _LAYER_ROWS)}
"""
    if (depth := scores.get("depth")) is None:
        return text
    return f"""\
{text}
## Order by depth

Shares of the {depth["trained"]["pairs"]:g} overlapping pairs of layers that come out right, and of
the {depth["trained"]["varying"]:g} whose order varies among the training characters.

{_table(depth, MODEL, (DEPTH, TAGS, TAGS_AND_PAGE, DEPTH_CEILING), _DEPTH_ROWS)}
"""


_LAYER_ROWS = {
    measure: title + (" (lower is better)" if measure in LOWER_IS_BETTER else "")
    for measure, title in OVERALL.items()
}
_DEPTH_ROWS = {"all_pairs": "all pairs", "varying_pairs": "varying pairs"}


def _table(measured: Measured, model: str, others: Sequence[str], rows: Mapping[str, str]) -> str:
    """Rows of measures: the model as trained and as packed, and what else was measured with it."""
    columns = {
        "trained": (measured["trained"], model),
        "packed": (measured["packed"], model),
        **{name: (measured["trained"], name) for name in others},
    }
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for measure, title in rows.items():
        values = [
            format_value(measure, metrics.get(metric_name(system, measure)))
            for metrics, system in columns.values()
        ]
        lines.append(f"| {title} | {' | '.join(values)} |")
    return "\n".join(lines)
