"""The processes that train together, one a rank: the main one decides, and one alone speaks."""

import contextlib
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seethrough.errors import InputError

if TYPE_CHECKING:
    from accelerate.state import PartialState

T = TypeVar("T")

FAILURE = "failure.json"

# Ranks wait for the main one while it runs a stage of its own, validates or writes a checkpoint.
# A rank that dies is noticed by whoever started it, not by this limit.
_PATIENCE = timedelta(days=7)

_RECIPE_DECIDES = (
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_DYNAMO_BACKEND",
)
"""What `accelerate launch` sets by its own configuration file. accelerate would obey it in
silence: divide every loss, compile the network, or cut it."""


def launched() -> bool:
    """Whether a launcher started this process, alone or as one of several."""
    return "RANK" in os.environ


def rank() -> int:
    """Rank given by a launcher; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """Number of processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1")) if launched() else 1


def check_launcher() -> None:
    """Raise InputError in one of several processes of srun that nobody gave a rank.

    Each of them would take itself for the only one.
    """
    task = os.environ.get("SLURM_PROCID", "0")
    if task != "0" and not launched():
        raise InputError(
            f"this is task {task} of srun and has no RANK: let srun start one task a machine, and "
            "torchrun in it, as launchers/README.md shows"
        )


def process_state(cpu: bool) -> "PartialState":
    """Join the other ranks, once a process, on CUDA unless `cpu`.

    How a launcher was told to train is forgotten: the recipe says that.

    Raises InputError when there are more processes than CUDA devices.
    """
    import torch
    from accelerate.state import PartialState

    for name in _RECIPE_DECIDES:
        os.environ.pop(name, None)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if not cpu and local_rank >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank} of this machine finds {torch.cuda.device_count()} CUDA "
            "devices: set hardware.processes to no more than that, or hardware.device=cpu"
        )
    return PartialState(cpu=cpu, timeout=_PATIENCE)


def part() -> None:
    """Leave the other ranks; the process can't join them again."""
    if launched():
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def everywhere(make: Callable[[], T]) -> T:
    """What `make` gives on the main process, on every process of an outer launcher.

    An error is the main process's to report; the others leave with exit code 2.
    """
    if world() == 1:
        return make()
    import torch.distributed

    box: list[Any] = [None, False]
    try:
        if rank() == 0:
            box = [make(), True]
    finally:
        torch.distributed.broadcast_object_list(box, src=0)
    if not box[1]:
        raise SystemExit(2)
    return box[0]


@contextlib.contextmanager
def one_failure(directory: Path) -> Iterator[None]:
    """Let one process report why a stage failed: the first, as the others fail by its absence.

    It leaves `failure.json` in `directory` and prints bad input's message, or the traceback of
    anything else. All leave with exit code 2 for bad input, 1 for anything else.
    """
    if not launched():
        yield
        return
    try:
        yield
    except Exception as error:
        code = 2 if isinstance(error, InputError) else 1
        if _claim(directory / FAILURE, {"rank": rank(), "message": str(error)}):
            if code == 2:
                print(error, file=sys.stderr, flush=True)
            else:
                traceback.print_exc()
        for child in multiprocessing.active_children():
            child.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        # Not through the interpreter's exit: that could wait for peers that are gone.
        os._exit(code)


def _claim(path: Path, content: dict[str, Any]) -> bool:
    """Whether this process is the first to fail."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError:
        return True  # a full disk must not silence the message
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
    return True
