"""Starts the processes of a stage: in this one, in new ones, or in those of an outer launcher."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seethrough.engine.ranks import world
from seethrough.errors import InputError
from seethrough.recipe.record import to_record
from seethrough.recipes.training import TrainStage

if TYPE_CHECKING:
    from seethrough.engine.execute import Finished, Work

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 5.0


def launch_stage(work: "Work", file: Path | None) -> "Finished | None":
    """Run one stage on as many processes as its hardware says.

    `file` is the experiment's, for new processes that have to find its classes. Returns what the
    stage made on the main process, None on others.
    """
    stage = work.stage
    processes = stage.hardware.processes if isinstance(stage, TrainStage) else 1
    # DeepSpeed wants a process group, be it of one.
    grouped = processes > 1 or (isinstance(stage, TrainStage) and stage.deepspeed.zero_stage > 0)
    if not grouped or world() > 1:
        from seethrough.engine.execute import run_stage

        return run_stage(work)
    return _spawn(work, file, processes)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _spawn(work: "Work", file: Path | None, processes: int) -> "Finished":
    from seethrough.engine.execute import Finished

    with tempfile.TemporaryDirectory() as folder:
        spec, made = Path(folder) / "stage.json", Path(folder) / "made.json"
        content = {
            "parent": os.getpid(),
            "file": None if file is None else str(file),
            "stage": to_record(work.stage),
            "work": work.plain(),
            "made": str(made),
        }
        spec.write_text(json.dumps(content))
        ranks = _start(spec, processes)
        grace = 0.0
        try:
            _wait(ranks)
            # A rank whose peer failed ends by itself, given a moment.
            grace = _GRACE_SECONDS
        finally:
            codes = _stop(ranks, grace)
        if any(codes):
            _raise_failure(work.name, codes)
        return Finished.from_plain(json.loads(made.read_text()), work.directory)


def _start(spec: Path, processes: int) -> list["subprocess.Popen[bytes]"]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    defaults = {
        # Ranks share the cores, unless the user or hardware.threads says otherwise.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        # On the CPU every rank would warn of find_unused_parameters, which is meant.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", "seethrough.engine.worker", str(spec)]
    return [
        subprocess.Popen(
            command,
            env={**defaults, **os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            # Not in this terminal's group: on Ctrl-C the launcher alone speaks, and stops them.
            start_new_session=True,
        )
        for rank in range(processes)
    ]


def _wait(ranks: list["subprocess.Popen[bytes]"]) -> None:
    """Return once all are done or one failed."""
    while True:
        codes = [process.poll() for process in ranks]
        if any(codes) or None not in codes:
            return
        time.sleep(0.05)


def _stop(ranks: list["subprocess.Popen[bytes]"], grace: float) -> list[int]:
    """End what still runs after `grace` seconds; returns the exit codes of the others."""
    limit = time.monotonic() + grace
    codes: list[int] = []
    for process in ranks:
        try:
            codes.append(process.wait(max(0.0, limit - time.monotonic())))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return codes


def _raise_failure(name: str, codes: list[int]) -> None:
    """End as the process did that failed first: the others fail by its absence."""
    if 2 in codes:
        raise SystemExit(2)  # it has said what is wrong with the input
    ended = [signal.Signals(-code).name for code in codes if code < 0]
    if ended:
        raise InputError(
            f"{name}: a process was ended by {ended[0]}: see whether the machine ran out of "
            "memory, then run the same command to go on from the last checkpoint"
        )
    raise SystemExit(f"{name}: a process failed; its traceback stands above")
