"""README.md of an exported model: the card that the hub shows, of facts from the run's records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from huggingface_hub import ModelCardData

from seethrough.decompose.layout import Family
from seethrough.decompose.options import FILE
from seethrough.engine.record import Input, StageRecord
from seethrough.engine.trained import Trained
from seethrough.recipe import Hub, Source
from seethrough.recipe.text import parse

CARD = "README.md"

_WHAT: dict[Family, str] = {
    "layers": (
        "A LayerDiff 3D model: it takes one illustration of a character apart into transparent"
        " layers, a frame a tag, what is hidden included."
    ),
    "depth": (
        "A Marigold 3D model: it predicts the depth of each layer of an illustration, a frame a"
        " layer, all on one scale."
    ),
}
_TAGS: dict[Family, list[str]] = {
    "layers": ["see-through", "layerdiff"],
    "depth": ["see-through", "marigold"],
}
_TASKS: dict[Family, str] = {"layers": "image-to-image", "depth": "depth-estimation"}
"""The hub's names of the nearest tasks."""


def write_card(folder: Path, trained: Trained, dtype: torch.dtype, license: str | None) -> None:
    """Write the card of the model in the folder, whose weights are of `dtype`.

    It tells local inputs by their hashes, not their paths, and no license but the one given.
    """
    family: Family = "layers" if trained.is_layerdiff else "depth"
    lineage = trained.lineage()
    data = ModelCardData(
        base_model=sorted({source.repo for source in _base_models(lineage)}) or None,
        library_name="diffusers",
        license=license,
        pipeline_tag=_TASKS[family],
        tags=_TAGS[family],
    )
    text = f"""\
---
{data.to_yaml()}
---

# {trained.record.experiment}

{_WHAT[family]}

```
python -m seethrough.decompose picture.png --{family}=file:FOLDER
```

License: {license or "not stated"}.

| | |
|---|---|
{_table(_facts(trained, dtype))}

## Stages that it comes from

| stage | fingerprint | what it read from outside of the run |
|---|---|---|
{_table((record.stage, record.fingerprint, _outside(record)) for record in lineage)}
"""
    (folder / CARD).write_text(text, encoding="utf-8")


def _facts(trained: Trained, dtype: torch.dtype) -> Iterator[tuple[str, str]]:
    record = trained.record
    yield "experiment, stage", f"{record.experiment}, {record.stage}"
    if record.adopted:
        yield (
            "how it was made",
            "adopted: the stage holds weights from elsewhere",
        )
    yield "type of the weights", str(dtype).removeprefix("torch.")
    yield "sha256 of the trained UNet", record.artifacts["unet"].sha256
    for name, field in (
        ("size in training, px", "data.target_size"),
        ("optimizer steps", "schedule.max_steps"),
        ("samples a step", "data.global_batch"),
        ("predicts", "objective.prediction_type"),
    ):
        if (value := trained.config(field)) is not None:
            yield name, value
    yield "how it is used", f"`{FILE}`, read by `python -m seethrough.decompose`"
    if record.git.get("commit"):
        changed = ", with changes" if record.git.get("dirty") else ""
        yield "commit of the code", f"{record.git['commit']}{changed}"
    yield "versions", ", ".join(f"{name} {number}" for name, number in record.versions.items())


def _outside(record: StageRecord) -> str:
    """Inputs that no stage made: of the hub by name and commit, local ones by their content."""
    lines = list[str]()
    for field, given in record.inputs.items():
        source = _source(given)
        if isinstance(source, Hub):
            lines.append(f"{field}: {source.repo}@{given.content or source.revision or 'main'}")
        elif not given.source.startswith("stage:"):
            lines.append(f"{field}: {given.identity}")
    return "<br>".join(lines) or "nothing"


def _base_models(lineage: list[StageRecord]) -> Iterator[Hub]:
    for record in lineage:
        for field, given in record.inputs.items():
            source = _source(given)
            if isinstance(source, Hub) and not field.startswith("data."):
                yield source


def _source(given: Input) -> Source:
    return cast(Source, parse(Source, given.source))


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
