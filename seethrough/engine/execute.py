"""Runs one stage on this process and writes its record."""

import importlib
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from seethrough.engine.files import tree_sha256
from seethrough.engine.loop import train
from seethrough.engine.plan import StagePlan, sources
from seethrough.engine.record import (
    Artifact,
    StageRecord,
    experiment_folder,
    git_state,
    package_versions,
    write_record,
)
from seethrough.engine.sources import fetch
from seethrough.engine.tracking import tracker_init
from seethrough.errors import InputError
from seethrough.recipe import Output, Source, Stage
from seethrough.recipe.load import Resolved
from seethrough.recipes.training import Device, TrainStage
from seethrough.tasks.task import StageContext, StageResult


def execute_stage(resolved: Resolved, plan: StagePlan, outputs: dict[Output, Path]) -> None:
    """Run a stage; on the main process its record is written at the end."""
    started = time.perf_counter()
    stage = plan.stage
    hardware = _device_section(stage)
    _set_threads(hardware)
    state = PartialState(cpu=_device(hardware).type == "cpu")
    context = StageContext(
        name=plan.name,
        directory=plan.directory,
        paths=_paths(plan, outputs, state),
        device=torch.device(str(state.device)),
        report=lambda text: print(text, flush=True) if state.is_main_process else None,
        is_main=state.is_main_process,
    )
    context.report(f"{plan.name}: {_first_line(stage)}")
    implementation = _implementation(stage)
    result: StageResult | None = None
    if isinstance(stage, TrainStage):
        result = _train(resolved, stage, implementation, context)
    elif state.is_main_process:
        result = implementation(stage, context)
    if state.is_main_process and result is not None:
        seconds = time.perf_counter() - started
        write_record(plan.directory, _record(resolved, plan, result, seconds))
        context.report(f"{plan.name}: done in {seconds:.0f} s{_metrics_text(result)}")
    state.wait_for_everyone()


def _train(
    resolved: Resolved, stage: TrainStage, task_class: Any, context: StageContext
) -> StageResult:
    accelerator = make_accelerator(stage, context.directory)
    tracker = stage.tracking.tracker
    if tracker is not None:
        accelerator.init_trackers(
            stage.tracking.project,
            config={"experiment": resolved.name, "stage": context.name},
            init_kwargs=tracker_init(
                stage.tracking, f"{resolved.name}-{context.name}", context.directory
            ),
        )
    try:
        return train(stage, task_class(stage, context), context, accelerator)
    finally:
        accelerator.end_training()
        accelerator.free_memory()
        # The next stage of this process may train in another precision.
        AcceleratorState._reset_state()


def make_accelerator(stage: TrainStage, folder: Path) -> Accelerator:
    """The accelerator of a stage: its precision, its trackers, data parallelism."""
    precision = stage.optim.precision
    cpu = _device(stage.hardware).type == "cpu"
    # After the first step DDP rebuilds its gradient buckets in the order in which gradients came,
    # which changes the order of additions from three ranks up: a resumed run would differ from
    # an uninterrupted one in the last bits. Looking for unused parameters keeps the first layout.
    # On GPUs that walk over the graph would cost time at every step.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=cpu)
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=cpu,
        log_with=stage.tracking.tracker,
        project_dir=folder,
        kwargs_handlers=[parallel],
    )


def _device_section(stage: Stage) -> Device:
    section = getattr(stage, "hardware", None)
    return section if isinstance(section, Device) else Device()


def _device(hardware: Device) -> torch.device:
    available = torch.cuda.is_available()
    if hardware.device == "cuda" and not available:
        raise InputError(
            "hardware.device=cuda, but PyTorch finds no CUDA device: check the driver, or set it "
            "to cpu"
        )
    use_cuda = available and hardware.device != "cpu"
    return torch.device("cuda" if use_cuda else "cpu")


def _set_threads(hardware: Device) -> None:
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)


def _paths(
    plan: StagePlan, outputs: dict[Output, Path], state: PartialState
) -> dict[Source, Path]:
    # One process of a machine downloads, the others find it in the cache.
    with state.local_main_process_first():
        return {
            source: fetch(source, f"{plan.name}.{path}", outputs)
            for path, source in sources(plan.stage)
        }


def _implementation(stage: Stage) -> Any:
    module, _, name = type(stage).implementation.partition(":")
    return getattr(importlib.import_module(module), name)


def _record(
    resolved: Resolved, plan: StagePlan, result: StageResult, seconds: float
) -> StageRecord:
    artifacts = {
        name: Artifact(
            path=path.relative_to(plan.directory).as_posix(), sha256=tree_sha256(path)
        )
        for name, path in result.artifacts.items()
    }
    return StageRecord(
        stage=plan.name,
        experiment=resolved.name,
        fingerprint=plan.fingerprint,
        config=plan.config,
        inputs=plan.inputs,
        artifacts=artifacts,
        metrics=result.metrics,
        git=git_state(experiment_folder(resolved)),
        versions=package_versions(),
        seconds=round(seconds, 3),
    )


def _first_line(stage: Stage) -> str:
    return (type(stage).__doc__ or "").strip().splitlines()[0]


def _metrics_text(result: StageResult) -> str:
    if not result.metrics:
        return ""
    shown = {name: value for name, value in result.metrics.items() if "/" not in name}
    return "; " + ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
