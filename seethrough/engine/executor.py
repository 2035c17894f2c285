"""Runs many independent tasks: on processes of this machine, or on Ray.

A task that fails is reported with its reason, and the rest goes on. A worker that dies is named,
and its task runs again on another. No task is in a worker's hands but the one that it works on, so
memory does not grow with the number of tasks. Imports no torch, in the workers neither.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from seethrough.engine.files import is_disk_full
from seethrough.errors import InputError

Where: TypeAlias = Literal["local", "ray"]

TRIES = 3
"""How often a task is started whose workers die."""

_DEATHS_IN_A_ROW = 10
"""So many dead workers with nothing made in between mean that none can work."""


class Task(Protocol):
    """What a worker takes at a time."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def size(self) -> int:
        """How much work it is, in the unit that rates are told in."""
        ...


@attrs.frozen
class Made:
    """A task's result."""

    task: Task
    value: Any


@attrs.frozen
class Failed:
    """A task that raised, or whose workers died."""

    task: Task
    reason: str
    stops_all: bool = False
    """Whether every other task would fail likewise: the disk is full."""


@attrs.frozen
class Lost:
    """A task whose worker died."""

    task: Task
    worker: str
    """Which one."""
    how: str
    """What became of it, such as `was ended by SIGKILL`."""


Event: TypeAlias = Made | Failed | Lost


class Pool(Protocol):
    """Workers. Each holds one task at most."""

    def has_room(self) -> bool:
        """Whether a worker is free."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to a free worker."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """What became of tasks, none after so many seconds without news."""
        ...

    def close(self) -> None:
        """End the workers at once."""
        ...


@attrs.frozen
class Summary:
    """What became of all tasks."""

    made: int
    """Tasks made now."""
    kept: int
    """Tasks that were done before."""
    failed: tuple[Failed, ...]
    """Tasks that could not be made."""
    deaths: int
    """Workers that died."""
    seconds: float
    """Wall-clock time."""


def run_tasks(
    function: Callable[[Any], Any],
    tasks: Sequence[Task],
    *,
    on: Where,
    workers: int,
    done: Callable[[Any], bool],
    finished: Callable[[Any, Any], None],
    report: Callable[[str], None],
    unit: str = "tasks",
    every: float = 10.0,
) -> Summary:
    """Run `function(task)` for all tasks that are not done.

    Args:
        function: pickled once for each worker, so of a module that workers can import.
        tasks: looked up by index when their turn comes; may be made on the way.
        on: `local` for processes of this machine, `ray` for a Ray cluster.
        workers: how many tasks run at a time.
        done: whether a task was made before.
        finished: called here with a task and its value as soon as it is made.
        report: takes a line for a person.
        unit: what `Task.size` counts.
        every: seconds between lines of progress.

    Raises:
        InputError: when the disk is full, workers die one after the other without making
            anything, or Ray is not to be had. What is made stays.
    """
    started = time.monotonic()
    waiting = deque(index for index, task in enumerate(tasks) if not done(task))
    kept = len(tasks) - len(waiting)
    if not waiting:
        return Summary(0, kept, (), 0, 0.0)
    progress = _Progress(sum(tasks[index].size for index in waiting), unit, report, every)
    lost = _LostTasks(report)
    failed: list[Failed] = []
    running = made = 0
    pool = _make_pool(function, on, min(workers, len(waiting)))
    try:
        while waiting or lost.again or running:
            while (waiting or lost.again) and pool.has_room():
                pool.submit(lost.again.popleft() if lost.again else tasks[waiting.popleft()])
                running += 1
            for event in pool.wait(1.0):
                running -= 1
                if isinstance(event, Lost):
                    event = lost.add(event)
                if isinstance(event, Made):
                    finished(event.task, event.value)
                    made += 1
                    lost.in_a_row = 0
                    progress.add(event.task.size)
                elif event is not None:
                    _check_goes_on(event)
                    failed.append(event)
                    report(f"{event.task.name}: not made: {event.reason}")
    finally:
        pool.close()
    return Summary(made, kept, tuple(failed), lost.deaths, time.monotonic() - started)


def attempt(function: Callable[[Any], Any], task: Task) -> Made | Failed:
    """Run a task in a worker; whatever it raises becomes the reason why it failed."""
    try:
        return Made(task, function(task))
    except InputError as error:
        return Failed(task, str(error))
    except Exception as error:
        if is_disk_full(error):
            return Failed(task, str(error), stops_all=True)
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}:{place.lineno}"
        return Failed(task, f"{type(error).__name__}: {error} ({where})")


def _check_goes_on(failed: Failed) -> None:
    if failed.stops_all:
        raise InputError(
            f"{failed.task.name}: the disk is full ({failed.reason}): free some space, then run "
            "the same command again; what is finished stays"
        )


class _LostTasks:
    """Tasks whose workers died: they run again before any other, a few times at most."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.again: deque[Task] = deque()
        self.tries: dict[str, int] = {}
        self.deaths = 0
        self.in_a_row = 0

    def add(self, event: Lost) -> Failed | None:
        """Take a task up again, or give it up."""
        self.deaths += 1
        self.in_a_row += 1
        name = event.task.name
        tried = self.tries[name] = self.tries.get(name, 0) + 1
        if self.in_a_row == _DEATHS_IN_A_ROW:
            raise InputError(
                f"{event.worker} {event.how}, as {self.in_a_row} did one after the other, with "
                "nothing made in between: see whether the machine is out of memory, and what "
                "stands above; then run the same command again"
            )
        if tried == TRIES:
            reason = f"its worker died {tried} times; the last, {event.worker}, {event.how}"
            return Failed(event.task, reason)
        self.report(f"{event.worker} {event.how} at {name}, which runs again on another")
        self.again.append(event.task)
        return None


class _Progress:
    """Tells now and then how much is made, how fast, and how long the rest takes."""

    def __init__(self, total: int, unit: str, report: Callable[[str], None], every: float) -> None:
        self.total, self.unit, self.report, self.every = total, unit, report, every
        self.made = 0
        self.started = self.told = time.monotonic()

    def add(self, size: int) -> None:
        """Count a task that is made."""
        self.made += size
        now = time.monotonic()
        if now - self.told < self.every and self.made < self.total:
            return
        self.told = now
        rate = self.made / max(now - self.started, 1e-9)
        left = timedelta(seconds=round((self.total - self.made) / rate))
        self.report(
            f"{self.made:,} of {self.total:,} {self.unit}, {rate:.3g} a second, {left} left"
        )


def _make_pool(function: Callable[[Any], Any], on: Where, workers: int) -> Pool:
    if on == "ray":
        from seethrough.engine.executor_ray import RayPool

        return RayPool(function, workers)
    from seethrough.engine.executor_local import LocalPool

    return LocalPool(function, workers)
