"""Tasks for the tests of the executor: files to write, and what goes wrong in a worker."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import attrs

from seethrough.errors import InputError


@attrs.frozen
class Write:
    """Writes its name to a file; before that it does what `first` says."""

    folder: Path
    name: str
    first: str = ""
    size: int = 1

    @property
    def file(self) -> Path:
        return self.folder / self.name

    def is_done(self) -> bool:
        return self.file.exists()


def write(task: Write) -> int:
    """Run a task; returns the worker's process."""
    tried = task.file.with_suffix(".tried")
    if task.first == "bad input":
        raise InputError(f"{task.file}: bad input")
    if task.first == "bug":
        raise KeyError("bug")
    if task.first == "disk full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if task.first == "die" or (task.first == "die once" and not tried.exists()):
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task.first == "wait":
        tried.touch()
        time.sleep(60)
    task.file.write_text(task.name)
    return os.getpid()


def torch_is_loaded(task: Write) -> bool:
    """Whether a worker has imported torch."""
    del task
    return "torch" in sys.modules
