"""Users of a hub on this machine, each a process, and a folder that looks like a model."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from seethrough.decompose.layout import PARTS
from tests.engine.hub import WRITER, Hub, running_hub, users

MB = 1_000_000

# Several command lines in one process, as each import takes a second.
PROGRAM = """
import json, sys
from seethrough.hub.__main__ import main

for line in json.loads(sys.argv[1]):
    print("exit", main(line), flush=True)
"""


@attrs.frozen
class User:
    """Runs command lines of `seethrough.hub`, with a cache of its own."""

    environment: dict[str, str]

    def start(self, *lines: list[str], largest_file: int | None = None) -> "subprocess.Popen[str]":
        """Start command lines in one process; no file of it may grow above `largest_file` bytes."""

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(lines)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )

    def run(self, *lines: list[str], largest_file: int | None = None) -> list[str]:
        """What each command line printed, its exit code last."""
        process = self.start(*lines, largest_file=largest_file)
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        token = self.environment.get("HF_TOKEN")
        assert token is None or token not in out + err
        assert "Traceback" not in err
        said = [
            line
            for line in err.splitlines()
            if line.startswith(("hub model", "--", "/", "org/", "HF_"))
        ]
        codes = [line for line in out.splitlines() if line.startswith("exit")]
        assert len(codes) == len(lines), err
        done = iter(line for line in out.splitlines() if not line.startswith("exit"))
        problems = iter(said)
        return [f"{next(done if code == 'exit 0' else problems)} {code}" for code in codes]

    def run_until_killed(
        self, hub: Hub, line: list[str], ready: Callable[[], bool] = lambda: True
    ) -> None:
        """Start a command line, and kill it when the hub stands still and `ready` holds."""
        process = self.start(line)
        end = time.monotonic() + 100
        while not (hub.stalled.is_set() and ready()):
            time.sleep(0.01)
            if time.monotonic() > end or process.poll() is not None:
                process.kill()
                raise AssertionError(process.communicate())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        hub.stall = None
        hub.stalled.clear()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(Hub()) as found:
        yield found


@pytest.fixture
def writer(hub: Hub, tmp_path: Path) -> User:
    """May write; without Xet, so that the hub sees all bytes."""
    home = tmp_path / "home"
    return User(users(hub.address, home, HF_TOKEN=WRITER, HF_HUB_DISABLE_XET="1"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder in the layout of a model of layers, two of its files large."""
    folder = tmp_path / "model"
    for part in PARTS["layers"]:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"part": part}))
    for part, size in (("unet", 3 * MB), ("vae", MB)):
        (folder / part / "weights.safetensors").write_bytes(os.urandom(size))
    (folder / "README.md").write_text("---\nlibrary_name: diffusers\n---\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of a folder's files, by path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
