"""Runs one stage on this process, alone or as one of several ranks."""

import importlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from seethrough.engine.files import clear_disk_errors
from seethrough.engine.hub import MODEL_FILES
from seethrough.engine.loop import train
from seethrough.engine.ranks import one_failure, process_state, world
from seethrough.engine.sources import fetch, snapshot_commit, sources
from seethrough.errors import InputError
from seethrough.recipe import Hub, Output, Source, Stage
from seethrough.recipes.training import Device, Hardware, TrainStage
from seethrough.tasks.task import StageContext, StageResult


@attrs.frozen
class Work:
    """One stage to run: all that a process needs to take part, decided by the main one."""

    name: str
    stage: Stage
    directory: Path
    outputs: Mapping[Output, Path]
    """Artifacts of earlier stages."""
    data_roots: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """JSON data for another process, without the stage."""
        return {
            "name": self.name,
            "directory": str(self.directory),
            "outputs": [[o.stage, o.artifact, str(path)] for o, path in self.outputs.items()],
            "data_roots": self.data_roots,
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], stage: Stage) -> "Work":
        """Read back what `plain` gave."""
        return cls(
            name=data["name"],
            stage=stage,
            directory=Path(data["directory"]),
            outputs={Output(made, name): Path(path) for made, name, path in data["outputs"]},
            data_roots=tuple(data["data_roots"]),
        )


@attrs.frozen
class Finished:
    """What a stage made, how long it took in all its sessions, and which hub commits it read."""

    result: StageResult
    seconds: float
    commits: dict[str, str]
    """Commit of each hub repository by the source's text."""

    def plain(self) -> dict[str, Any]:
        """JSON data for another process."""
        artifacts = {name: str(path) for name, path in self.result.artifacts.items()}
        metrics = self.result.metrics
        return {
            "artifacts": artifacts,
            "metrics": metrics,
            "seconds": self.seconds,
            "commits": self.commits,
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], directory: Path) -> "Finished":
        """Read back what `plain` gave."""
        artifacts = {name: Path(path) for name, path in data["artifacts"].items()}
        result = StageResult(artifacts=artifacts, metrics=data["metrics"])
        return cls(result, data["seconds"], data["commits"])


# It warns at import that kernels for 4-bit inference on the CPU are absent; nothing here uses them.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def run_stage(work: Work) -> Finished | None:
    """Run a stage; returns what it made on the main process, None on the others."""
    with one_failure(work.directory), clear_disk_errors(work.directory):
        return _run_stage(work)


def _run_stage(work: Work) -> Finished | None:
    started = time.perf_counter()
    stage = work.stage
    hardware = device_section(stage)
    state = process_state(on_cpu(hardware))
    is_main = state.is_main_process
    device = _device(hardware, state)
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    # One process of a machine downloads, the others find it in the cache.
    with state.local_main_process_first():
        paths = {
            source: fetch(
                source,
                f"{work.name}.{path}",
                work.outputs,
                work.data_roots,
                stage.reads.get(path, MODEL_FILES),
            )
            for path, source in sources(stage)
        }
    context = StageContext(
        name=work.name,
        directory=work.directory,
        paths=paths,
        device=device,
        report=lambda text: print(text, flush=True) if is_main else None,
        is_main=is_main,
        data_roots=work.data_roots,
    )
    context.report(f"{work.name}: {first_line(stage)}")
    implementation = _implementation(stage)
    result: StageResult | None = None
    earlier = 0.0
    try:
        if isinstance(stage, TrainStage):
            result, earlier = _train(stage, implementation, context)
        elif is_main:
            result = implementation(stage, context)
    finally:
        # The next stage of this process may run on another device or in another precision.
        AcceleratorState._reset_state(reset_partial_state=world() == 1)
    if result is None or not is_main:
        return None
    return Finished(result, earlier + time.perf_counter() - started, _commits(paths))


def _train(stage: TrainStage, task_class: Any, context: StageContext) -> tuple[StageResult, float]:
    accelerator = make_accelerator(stage, context)
    try:
        return train(stage, task_class(stage, context), context, accelerator)
    finally:
        accelerator.free_memory()


def make_accelerator(stage: TrainStage, context: StageContext) -> Accelerator:
    """The accelerator of a stage: its precision, data parallelism or DeepSpeed."""
    precision = stage.optim.precision
    cpu = context.device.type == "cpu"
    if cpu and precision == "fp16":
        raise InputError(
            f"{context.name}.optim.precision=fp16 needs a GPU, and there is none: use bf16 or fp32"
        )
    if stage.deepspeed.zero_stage > 0:
        from seethrough.engine.zero import make_zero_accelerator

        return make_zero_accelerator(stage, cpu)
    parallel = DistributedDataParallelKwargs(
        # After the first step DDP rebuilds its gradient buckets in the order in which gradients
        # came, which changes the order of additions from three ranks up: a resumed run would
        # differ from an uninterrupted one in the last bits. Looking for unused parameters keeps
        # the first layout. On GPUs that walk over the graph would cost time at every step.
        find_unused_parameters=cpu,
        # Gradients lie in the buckets: no second copy of them.
        gradient_as_bucket_view=True,
    )
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=cpu,
        kwargs_handlers=[parallel],
    )


def device_section(stage: Stage) -> Device:
    """The stage's `hardware`, or the default of a stage that has none."""
    section = getattr(stage, "hardware", None)
    return section if isinstance(section, Device) else Device()


def on_cpu(hardware: Device) -> bool:
    """Whether a stage computes on the CPU. Raises InputError when it wants CUDA in vain."""
    available = torch.cuda.is_available()
    if hardware.device == "cuda" and not available:
        raise InputError(
            "hardware.device=cuda, but PyTorch finds no CUDA device: check the driver, or set it "
            "to cpu"
        )
    return hardware.device == "cpu" or not available


def _device(hardware: Device, state: PartialState) -> torch.device:
    device = torch.device(str(state.device))
    if not on_cpu(hardware) or device.type == "cpu":
        return device
    if torch.distributed.is_initialized() and isinstance(hardware, Hardware):
        raise InputError(
            "hardware.device=cpu, but the outer launcher's processes are joined over CUDA: run "
            "this stage alone with --only, or on CUDA like the others"
        )
    return torch.device("cpu")


def first_line(stage: Stage) -> str:
    """What a stage does, by its class's docstring."""
    return (type(stage).__doc__ or "").strip().splitlines()[0]


def _implementation(stage: Stage) -> Any:
    module, _, name = type(stage).implementation.partition(":")
    return getattr(importlib.import_module(module), name)


def _commits(paths: Mapping[Source, Path]) -> dict[str, str]:
    found = {str(s): snapshot_commit(path) for s, path in paths.items() if isinstance(s, Hub)}
    return {source: commit for source, commit in found.items() if commit is not None}
