"""Command lines as processes: one or several ranks, to be waited for or killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "DS_ACCELERATOR": "cpu",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "PYTHONPATH": str(ROOT),
}


@attrs.frozen
class Done:
    """A command line that ended: exit codes by rank, and what all ranks printed."""

    codes: list[int]
    out: str
    err: str

    @property
    def code(self) -> int:
        """The exit code of one process."""
        (code,) = self.codes
        return code


@attrs.frozen
class Running:
    """A command line that runs on one or several ranks."""

    warm: "Warm"
    pids: list[int]
    folder: Path

    def kill(self) -> Done:
        """End all ranks by kill -9, and wait for them."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.wait()

    def until(self, seen: Callable[[], bool]) -> None:
        """Wait until something is seen, while the ranks go on."""
        limit = time.monotonic() + 60
        while not seen():
            assert time.monotonic() < limit, self.kill().err
            time.sleep(0.01)

    def wait(self) -> Done:
        """Wait until all ranks are done."""
        codes = [self.warm.ask({"wait": pid})["code"] for pid in self.pids]
        texts = {
            name: "".join(path.read_text() for path in sorted(self.folder.glob(f"*.{name}")))
            for name in ("out", "err")
        }
        return Done(codes, texts["out"], texts["err"])


class Warm:
    """Starts command lines from a process that has everything imported."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request, one answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *arguments: str,
        program: str = "seethrough.run",
        world: int = 1,
        env: dict[str, str | None] | None = None,
    ) -> Running:
        """Start `python -m PROGRAM ARGUMENTS`, on several ranks as torchrun would.

        A package is named with its `.__main__`. Of `env`, None unsets.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        pids: list[int] = []
        shared = {name: text for name, text in (env or {}).items() if text is not None}
        if world > 1:
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
            shared |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
            task = {
                "program": program,
                "arguments": list(arguments),
                "env": {**shared, **own},
                "unset": [name for name, text in (env or {}).items() if text is None],
                "out": str(folder / f"{rank}.out"),
                "err": str(folder / f"{rank}.err"),
            }
            pids.append(self.ask({"start": task})["pid"])
        return Running(self, pids, folder)

    def run(
        self,
        *arguments: str,
        program: str = "seethrough.run",
        world: int = 1,
        env: dict[str, str | None] | None = None,
    ) -> Done:
        """Run a command line to its end."""
        return self.start(*arguments, program=program, world=world, env=env).wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    """A process that has everything imported; what its command lines print goes to a folder."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Warm(process, folder)
        assert process.stdin is not None
        process.stdin.close()


def command(*arguments: str) -> list[str]:
    """The command line as a user gives it."""
    return [sys.executable, "-m", "seethrough.run", *arguments]
