"""Measures all samples, with other processes if there are any: what is done is skipped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from seethrough.benchmark.cases import Benchmark
from seethrough.benchmark.page import write_page
from seethrough.benchmark.results import write_tables
from seethrough.benchmark.settings import (
    Command,
    DepthSettings,
    LayeredSettings,
    LayersSettings,
    PartsegSettings,
    Settings,
)
from seethrough.data.layout import Sample, read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.decompose.images import Image
from seethrough.decompose.progress import Progress
from seethrough.engine.files import write_json
from seethrough.engine.ranks import everywhere, rank
from seethrough.errors import InputError
from seethrough.segment.masks import make_folder
from seethrough.segment.photos import gathered, join, share

SAMPLES = "samples"
"""Folder of what is kept of every sample."""

_INPUTS = "inputs"
_SCORES = "scores"


def run(command: Command) -> list[str]:
    """Measure; prints a line for each sample and, on the main process, the table.

    Returns lines that say which samples failed, on all processes: they are in no mean.

    Raises:
        InputError: when there is no sample, nothing could be measured, or `out` can't be written.
    """
    settings = command.settings
    device = join(settings.device if isinstance(settings, LayersSettings) else "cpu")
    samples, benchmark = everywhere(
        lambda: (_samples(command), _benchmark(settings, command.predictions))
    )
    folder = command.out / SAMPLES
    make_folder(folder)
    inputs = everywhere(lambda: [_inputs(benchmark, sample) for sample in samples])
    todo = everywhere(
        lambda: [
            place
            for place, sample in enumerate(samples)
            if _read(folder, sample, inputs[place]) is None
        ]
    )
    if rank() == 0 and len(todo) < len(samples):
        print(f"{len(samples) - len(todo)} of {len(samples)} are done already, in {command.out}")
    own = [(samples[place], inputs[place]) for place in share(todo)]
    failures = gathered(_measure(own, benchmark, device, folder))
    everywhere(lambda: _conclude(command, samples, benchmark, inputs, failures))
    return failures


def _benchmark(settings: Settings, predictions: Path) -> Benchmark:
    if not predictions.is_dir():
        raise InputError(f"{predictions}: no such folder of predictions")
    if isinstance(settings, LayersSettings):
        from seethrough.benchmark.layers import LayersBenchmark
        from seethrough.benchmark.networks import find_networks

        return LayersBenchmark(
            predictions=predictions, settings=settings, found=find_networks(settings)
        )
    if isinstance(settings, DepthSettings):
        from seethrough.benchmark.depth import DepthBenchmark

        return DepthBenchmark(predictions=predictions, settings=settings)
    from seethrough.benchmark.partseg import PartsegBenchmark

    assert isinstance(settings, PartsegSettings)
    return PartsegBenchmark(predictions=predictions, settings=settings)


def _samples(command: Command) -> list[Sample]:
    """The samples, each once.

    Raises:
        InputError: when there is none, or two have one name.
    """
    pages: dict[str, Path] = {}
    for page in read_sample_list(command.samples):
        other = pages.setdefault(page.stem, page)
        if other.resolve() != page.resolve():
            raise InputError(
                f"{page}: has the name of {other}, so their predictions can't be told apart: rename"
                " one, or measure them apart"
            )
    settings = command.settings
    stored = settings.layer_alpha if isinstance(settings, LayeredSettings) else "straight"
    return [read_sample(page, stored) for page in pages.values()]


def _inputs(benchmark: Benchmark, sample: Sample) -> dict[str, Any] | str:
    """What a sample's measures depend on, or why it can't be measured."""
    try:
        return {"benchmark": type(benchmark).__name__, **benchmark.inputs(sample)}
    except InputError as error:
        return str(error)


def _measure(
    samples: Sequence[tuple[Sample, dict[str, Any] | str]],
    benchmark: Benchmark,
    device: torch.device,
    folder: Path,
) -> list[str]:
    """Measure samples and write what is kept of them; returns a line for each that failed."""
    if not samples:
        return []
    networks = benchmark.load(device)
    progress = Progress(len(samples))
    for sample, inputs in samples:
        with progress.image(Image(sample.page_path, sample.name)):
            if isinstance(inputs, str):
                raise InputError(inputs)
            record = folder / f"{sample.name}.json"
            # Until the new measures are whole, neither these count nor earlier ones.
            record.unlink(missing_ok=True)
            scores = benchmark.measure(sample, networks, record.with_suffix(".safetensors"))
            write_json(record, {_INPUTS: inputs, _SCORES: scores})
            progress.done(str(sample.page_path))
    return progress.failures


def _read(folder: Path, sample: Sample, inputs: dict[str, Any] | str) -> dict[str, Any] | None:
    """A sample's measures, if they were made from these inputs."""
    try:
        record = json.loads((folder / f"{sample.name}.json").read_text(encoding="utf-8"))
        return record[_SCORES] if record[_INPUTS] == inputs else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _conclude(
    command: Command,
    samples: Sequence[Sample],
    benchmark: Benchmark,
    inputs: Sequence[dict[str, Any] | str],
    failures: Sequence[str],
) -> None:
    """Write what is known of all samples together, each counted once, in the list's order."""
    folder = command.out / SAMPLES
    found = [_read(folder, sample, given) for sample, given in zip(samples, inputs, strict=True)]
    records: Mapping[str, Any] = {
        sample.name: scores
        for sample, scores in zip(samples, found, strict=True)
        if scores is not None
    }
    if not records:
        raise InputError(
            "\n".join([f"{command.predictions}: no sample could be measured", *failures])
        )
    result = attrs.evolve(
        benchmark.summarize(records, folder),
        made={
            "samples": str(command.samples),
            "predictions": str(command.predictions),
            **attrs.asdict(command.settings, filter=lambda field, _: field.name != "worst"),
        },
        failed=list(failures),
    )
    table = write_tables(command.out, result)
    cases = benchmark.worst(samples, records, command.settings.worst)
    write_page(command.out / "worst.html", result, cases)
    print(table, flush=True)
    for line in result.missing:
        print(f"not measured: {line}")
    print(f"the worst cases: {command.out / 'worst.html'}", flush=True)
