"""The executor: every task is made once, whatever happens to workers, and what failed is told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seethrough.engine.executor import Summary, run_tasks
from seethrough.errors import InputError
from tests.engine.executor_tasks import Write, torch_is_loaded, write


class Run:
    """What a call of the executor told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}
        self.summary: Summary | None = None

    def __call__(
        self, tasks: Sequence[Write], function: Callable[[Any], Any] = write, **options: Any
    ) -> Summary:
        self.summary = run_tasks(
            function,
            tasks,
            **{"on": "local", "workers": 2, "every": 0.0, **options},
            done=Write.is_done,
            finished=lambda task, value: self.values.__setitem__(task.name, value),
            report=self.lines.append,
        )
        return self.summary


def tasks_in(folder: Path, *firsts: str) -> list[Write]:
    return [Write(folder, str(number), first) for number, first in enumerate(firsts)]


def made_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.suffix)


def test_tasks_are_spread_over_workers_and_what_is_done_is_kept(tmp_path: Path):
    (tmp_path / "1").write_text("made before")
    run = Run()
    summary = run(tasks_in(tmp_path, *[""] * 6))
    assert made_in(tmp_path) == list("012345")
    assert (tmp_path / "1").read_text() == "made before"
    assert (summary.made, summary.kept, summary.failed) == (5, 1, ())
    assert set(run.values) == set("02345")
    assert os.getpid() not in run.values.values()
    assert "5 of 5 tasks" in run.lines[-1] and "0:00:00 left" in run.lines[-1]


def test_nothing_is_started_when_all_is_done(tmp_path: Path):
    tasks = tasks_in(tmp_path, "die")
    tasks[0].file.touch()
    assert Run()(tasks).kept == 1


def test_what_fails_is_told_with_its_reason_and_the_rest_goes_on(tmp_path: Path):
    run = Run()
    summary = run(tasks_in(tmp_path, "bad input", "", "bug", ""))
    assert made_in(tmp_path) == ["1", "3"]
    reasons = {failed.task.name: failed.reason for failed in summary.failed}
    assert reasons["0"] == f"{tmp_path}/0: bad input"
    assert reasons["2"].startswith("KeyError: 'bug' (") and "executor_tasks.py:" in reasons["2"]


def test_a_dead_worker_is_named_and_its_task_runs_again(tmp_path: Path):
    run = Run()
    summary = run(tasks_in(tmp_path, "", "die once", ""))
    assert made_in(tmp_path) == list("012")
    assert summary.deaths == 1
    (line,) = [line for line in run.lines if "SIGKILL" in line]
    assert line.startswith("worker ") and "(process " in line and "at 1, which runs again" in line


def test_a_task_that_kills_every_worker_is_given_up(tmp_path: Path):
    summary = Run()(tasks_in(tmp_path, "", "die", ""), workers=1)
    assert made_in(tmp_path) == ["0", "2"]
    (failed,) = summary.failed
    assert failed.task.name == "1"
    assert failed.reason.startswith("its worker died 3 times") and "SIGKILL" in failed.reason


def test_workers_that_can_do_nothing_stop_the_run(tmp_path: Path):
    with pytest.raises(InputError, match=r"nothing made in between"):
        Run()(tasks_in(tmp_path, *["die"] * 9))


def test_a_full_disk_stops_the_run_and_keeps_what_is_made(tmp_path: Path):
    with pytest.raises(InputError, match=r"2: the disk is full .*free some space"):
        Run()(tasks_in(tmp_path, "", "", "disk full", *[""] * 50), workers=1)
    assert made_in(tmp_path) == ["0", "1"]


def test_workers_load_no_torch(tmp_path: Path):
    run = Run()
    run(tasks_in(tmp_path, ""), torch_is_loaded, workers=1)
    assert run.values == {"0": False}


def test_workers_end_with_the_run_and_with_a_killed_parent(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from tests.engine.test_executor import *\n"
        "if __name__ == '__main__': Run()(tasks_in(Path(sys.argv[1]), 'wait', 'wait'))"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    parent = subprocess.Popen(
        [sys.executable, str(main), str(tmp_path)], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    until(lambda: len(list(tmp_path.glob("*.tried"))) == 2)
    workers = children(parent.pid)
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_an_interruption_ends_the_workers(tmp_path: Path):
    def interrupt() -> None:
        until(lambda: (tmp_path / "0.tried").exists())
        os.kill(os.getpid(), signal.SIGINT)

    # What a shell starts in the background ignores interruptions.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Run()(tasks_in(tmp_path, "wait"), workers=1)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert multiprocessing.active_children() == []


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
