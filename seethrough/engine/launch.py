"""Starts the processes of a stage: in this one, in new ones, or in those of an outer launcher."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from seethrough.engine.plan import StagePlan
from seethrough.errors import InputError
from seethrough.recipe import Output
from seethrough.recipe.load import Resolved
from seethrough.recipes.training import TrainStage

_PR_SET_PDEATHSIG = 1


def outer_rank() -> int:
    """Rank given by torchrun or `accelerate launch`; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def under_outer_launcher() -> bool:
    """Whether torchrun or `accelerate launch` started this process among others."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch_stage(
    resolved: Resolved, plan: StagePlan, outputs: dict[Output, Path], runs: Path
) -> None:
    """Run one stage on as many processes as its hardware says."""
    processes = plan.stage.hardware.processes if isinstance(plan.stage, TrainStage) else 1
    if processes == 1 or under_outer_launcher():
        from seethrough.engine.execute import execute_stage

        execute_stage(resolved, plan, outputs)
    else:
        _spawn(resolved, plan.name, processes, runs)


def die_with_parent(sign: signal.Signals) -> None:
    """Ask the kernel to send `sign` to this process when its parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, sign)


def _spawn(resolved: Resolved, name: str, processes: int, runs: Path) -> None:
    from seethrough.recipe.record import to_record

    spec = {
        "experiment": to_record(resolved.experiment),
        "name": resolved.name,
        "file": None if resolved.file is None else str(resolved.file),
        "stage": name,
        "runs": str(runs),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stage.json"
        path.write_text(json.dumps(spec))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(processes), "-m", "seethrough.engine.worker", str(path),
        ]  # fmt: skip
        launcher = subprocess.Popen(
            command, preexec_fn=lambda: die_with_parent(signal.SIGTERM)
        )
        try:
            code = launcher.wait()
        except BaseException:
            launcher.terminate()
            launcher.wait()
            raise
    if code:
        raise InputError(
            f"{name}: a process of {processes} failed (exit code {code}); its message stands above"
        )
