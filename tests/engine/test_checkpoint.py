"""Checkpoints: complete or absent, on disks that are full, harmed or left half written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seethrough.engine.checkpoint import (
    checkpoint_path,
    checkpoint_step,
    complete_checkpoints,
    latest_good_checkpoint,
    load_checkpoint,
    save_checkpoint,
    sweep,
    verify_checkpoint,
)
from seethrough.errors import InputError
from tests.processes import ENVIRONMENT, ROOT


def parts(value: float, size: int = 1000) -> dict[str, object]:
    return {
        "network": {"weight": torch.full((size,), float(value))},
        "progress": {"seconds": value},
    }


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 7, parts(0.5), keep=2)
    assert path == checkpoint_path(tmp_path, 7) and checkpoint_step(path) == 7
    assert verify_checkpoint(path) is None
    back = load_checkpoint(path)
    assert back["progress"] == {"seconds": 0.5}
    assert torch.equal(back["network"]["weight"], torch.full((1000,), 0.5))
    with pytest.raises(InputError, match="expected a name like step-00000100"):
        checkpoint_step(tmp_path / "epoch-1")


def test_the_oldest_go_first_and_a_step_may_be_written_again(tmp_path: Path) -> None:
    for step in (1, 2, 3, 3):
        save_checkpoint(tmp_path, step, parts(step), keep=2)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert [checkpoint_step(path) for path in complete_checkpoints(tmp_path)] == [2, 3]


def test_what_is_not_whole_is_not_taken(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, parts(step), keep=9)
    (checkpoint_path(tmp_path, 4) / "manifest.json").unlink()
    cut = checkpoint_path(tmp_path, 3) / "network.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    assert [checkpoint_step(path) for path in complete_checkpoints(tmp_path)] == [1, 2]
    harmed = checkpoint_path(tmp_path, 2) / "progress.json"
    harmed.write_bytes(harmed.read_bytes()[::-1])
    assert verify_checkpoint(checkpoint_path(tmp_path, 2)) == "progress.json"
    said: list[str] = []
    assert latest_good_checkpoint(tmp_path, said.append) == checkpoint_path(tmp_path, 1)
    assert len(said) == 1 and "step-00000002: passed over: the content of progress.json" in said[0]
    with pytest.raises(InputError, match=r"no readable manifest\.json"):
        load_checkpoint(checkpoint_path(tmp_path, 4))
    assert latest_good_checkpoint(tmp_path / "nowhere", said.append) is None


def test_leftovers_of_a_kill_and_old_ones_are_swept(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, parts(1), keep=9)
    for name in (".partial-step-00000002", ".trash-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.safetensors").touch()
    save_checkpoint(tmp_path, 3, parts(3), keep=9)
    sweep(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mounts() -> bool:
    """Whether this process may mount: root may, outside of some containers."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True).returncode == 0


def expect_full(message: str, folder: Path, before: list[str]) -> None:
    assert message.startswith(f"{folder}: can't write a checkpoint of 1.9 MiB: ")
    assert "MiB are free" in message
    assert "lower schedule.keep_checkpoints, then run the same command again" in message
    assert sorted(path.name for path in folder.iterdir()) == before


if mounts():

    def test_a_full_disk(small_disk: Path) -> None:
        folder = small_disk / "checkpoints"
        save_checkpoint(folder, 1, parts(1), keep=9)
        with pytest.raises(InputError) as caught:
            save_checkpoint(folder, 2, parts(2, 500_000), keep=9)
        expect_full(str(caught.value), folder, ["step-00000001"])
        assert "No space left on device" in str(caught.value)
        # Space again, and all is well.
        save_checkpoint(folder, 2, parts(2), keep=9)
        assert len(complete_checkpoints(folder)) == 2


LIMITED = """
import resource, sys
from pathlib import Path
from seethrough.engine.checkpoint import save_checkpoint
from tests.engine.test_checkpoint import parts
folder = Path(sys.argv[1])
save_checkpoint(folder, 1, parts(1), keep=9)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    save_checkpoint(folder, 2, parts(2, 500_000), keep=9)
except ValueError as error:
    print(type(error).__name__, error)
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kind, _, message = done.stdout.partition(" ")
    assert kind == "InputError"
    expect_full(message, tmp_path, ["step-00000001"])


if mounts():

    def test_a_disk_that_fills_up_while_a_stage_trains(small_disk: Path, warm) -> None:
        arguments = [
            "tests/engine/chain.py", f"--runs={small_disk}", "--train.width=64",
            "--train.schedule.checkpoint_every=1", "--train.schedule.max_steps=20",
            "--train.schedule.keep_checkpoints=30",
        ]  # fmt: skip
        done = warm.run(*arguments)
        assert done.code == 2
        assert "No space left on device" in done.err or "disk is full" in done.err
        assert "Traceback" not in done.err
        folder = small_disk / "chain/train/checkpoints"
        good = complete_checkpoints(folder)
        assert good and verify_checkpoint(good[-1]) is None
        assert sorted(folder.iterdir()) == good
        # Room for it, and the same command goes on.
        done = warm.run(*arguments[:-1], "--train.schedule.keep_checkpoints=2")
        assert done.code == 0, done.err
        assert f"resumed after step {len(good)}" in done.out
