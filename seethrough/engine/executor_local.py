"""Workers on this machine: processes that are started afresh and import what they need."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from seethrough.engine.executor import Event, Failed, Lost, Made, Task, attempt
from seethrough.engine.launch import die_with_parent

_CONTEXT = multiprocessing.get_context("spawn")
"""Not forked: this process may hold torch, its threads and a GPU."""


class LocalPool:
    """Processes, each with a pipe; one that dies is replaced."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        self._function = pickle.dumps(function)
        self._workers = [_Worker(number, self._function) for number in range(1, workers + 1)]

    def has_room(self) -> bool:
        """Whether a worker is free."""
        return any(worker.task is None for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Give a task to a free worker."""
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task = task
        try:
            worker.connection.send(task)
        except OSError:
            return  # It has died: waiting for it tells.

    def wait(self, seconds: float) -> list[Event]:
        """What became of tasks, none after so many seconds without news."""
        busy = {w.connection: w for w in self._workers if w.task is not None}
        return [self._event(busy[ready]) for ready in wait(list(busy), seconds)]  # pyright: ignore

    def close(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()

    def _event(self, worker: "_Worker") -> Event:
        task = worker.task
        assert task is not None
        try:
            event: Made | Failed = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers[worker.number - 1] = _Worker(worker.number, self._function)
            return Lost(task, worker.name, _ended(worker.process.exitcode or 0))
        worker.task = None
        return event


class _Worker:
    def __init__(self, number: int, function: bytes) -> None:
        self.number = number
        self.task: Task | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_serve, args=(theirs, function, os.getpid()), daemon=True
        )
        self.process.start()
        # With only the worker holding its end, the pipe closes when it dies.
        theirs.close()

    @property
    def name(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


def _serve(connection: Connection, pickled: bytes, parent: int) -> None:
    """A worker's life: take a task, tell what became of it."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent decides
    function = None
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(attempt(function := function or pickle.loads(pickled), task))


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
