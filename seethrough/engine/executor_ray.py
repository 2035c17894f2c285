"""Workers on Ray: actors of one CPU each, on this machine or on a cluster.

Without RAY_ADDRESS a Ray of this machine is started, and ended afterwards. With it, workers are
taken from that cluster as they become free, so that one that grows is used as it does; its machines
need the same packages, and the folders that tasks name.
"""

import os
from collections.abc import Callable
from typing import Any

from seethrough.engine.executor import Event, Lost, Task, attempt
from seethrough.errors import InputError


class RayPool:
    """Actors; one that dies is replaced."""

    def __init__(self, function: Callable[[Any], Any], workers: int) -> None:
        # Nothing about the run is sent anywhere.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "running on Ray needs its package: pip install 'seethrough[ray]'"
            ) from error
        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            self._connect(workers)
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        self._function = ray.put(function)
        self._workers = [self._start(number) for number in range(1, workers + 1)]

    def has_room(self) -> bool:
        """Whether a worker is there and free."""
        return any(worker.free for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Give a task to a free worker."""
        worker = next(worker for worker in self._workers if worker.free)
        worker.task = task
        worker.pending = worker.actor.run.remote(task)

    def wait(self, seconds: float) -> list[Event]:
        """What became of tasks, none after so many seconds without news."""
        pending = {w.pending: w for w in self._workers if w.pending is not None}
        ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=seconds)
        events = [self._event(pending[one]) for one in ready]
        return [event for event in events if event is not None]

    def close(self) -> None:
        """End the workers at once, and Ray if it was started here."""
        if self._started:
            self._ray.shutdown()
            return
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def _connect(self, workers: int) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if "RAY_ADDRESS" not in os.environ:
            options |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
        try:
            self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"Ray can't be reached or started: {error}") from error

    def _start(self, number: int) -> "_Worker":
        return _Worker(number, self._actor.remote(self._function))

    def _event(self, worker: "_Worker") -> Event | None:
        task = worker.task
        try:
            result = self._ray.get(worker.pending)
        except self._ray.exceptions.RayActorError as error:
            self._workers[worker.number - 1] = self._start(worker.number)
            if task is None:
                raise InputError(f"{worker.name} could not start: {error}") from error
            return Lost(task, worker.name, f"died ({str(error).splitlines()[0]})")
        worker.pending = None
        if task is None:
            worker.place = result
            return None
        worker.task = None
        return result


class _Worker:
    """An actor, and what it was asked: first where it lives, then tasks."""

    def __init__(self, number: int, actor: Any) -> None:
        self.number = number
        self.actor = actor
        self.task: Task | None = None
        self.place = "not started"
        self.pending: Any = actor.place.remote()

    @property
    def free(self) -> bool:
        return self.pending is None

    @property
    def name(self) -> str:
        return f"worker {self.number} ({self.place})"


class _Actor:
    """Lives in a worker's process."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def place(self) -> str:
        return f"process {os.getpid()} on {os.uname().nodename}"

    def run(self, task: Task) -> Any:
        return attempt(self.function, task)
