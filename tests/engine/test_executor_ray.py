"""The executor on a real Ray of this machine: what it promises on processes holds there too."""

import os
import sys
from pathlib import Path

import pytest

from seethrough.engine.executor_ray import RayPool
from seethrough.errors import InputError
from tests.engine.executor_tasks import write
from tests.engine.test_executor import Run, made_in, tasks_in


def test_tasks_on_ray_with_a_worker_that_is_killed(tmp_path: Path):
    """Two workers: one is killed, is named, and its task runs again; a bad task is told."""
    pytest.importorskip("ray")
    run = Run()
    (tmp_path / "0").write_text("made before")
    summary = run(tasks_in(tmp_path, "", "die once", "", "bad input", "", ""), on="ray")
    assert made_in(tmp_path) == list("01245")
    assert (tmp_path / "0").read_text() == "made before"
    assert (summary.made, summary.kept, summary.deaths) == (4, 1, 1)
    (failed,) = summary.failed
    assert (failed.task.name, failed.reason) == ("3", f"{tmp_path}/3: bad input")
    (line,) = [line for line in run.lines if "runs again" in line]
    assert line.startswith("worker ") and "(process " in line and "at 1, which" in line
    assert os.getpid() not in run.values.values()
    assert not _pool_is_running()


def test_without_its_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'seethrough\[ray\]'"):
        RayPool(write, 1)


def _pool_is_running() -> bool:
    import ray

    return ray.is_initialized()
