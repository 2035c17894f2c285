"""Own processes and those of an outer launcher, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seethrough.engine.execute import Work
from seethrough.recipe import Output
from tests.engine.chain import Total
from tests.engine.conftest import CHAIN, record, weights
from tests.processes import ENVIRONMENT, ROOT, Warm, command

TWO = "--train.hardware.processes=2"
SLOW = ("--train.pause=0.05", "--train.schedule.max_steps=2000")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_own_processes_make_what_an_outer_launcher_does(warm: Warm, tmp_path: Path) -> None:
    own, outer, folded = tmp_path / "own", tmp_path / "outer", tmp_path / "folded"
    done = run(*command(CHAIN, f"--runs={own}", TWO))
    assert done.returncode == 0, done.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    two = ["--nproc-per-node", "2", "-m", "seethrough.run"]
    launched = run(*launcher, *two, CHAIN, f"--runs={outer}")
    assert launched.returncode == 0, launched.stderr
    assert warm.run(CHAIN, f"--runs={folded}", world=2).codes == [0, 0]
    assert weights(own) == weights(outer) == weights(folded)
    assert record(own, "train")["execution"]["hardware.processes"] == "2"

    for out in (done.stdout, launched.stdout):
        lines = out.splitlines()
        # Each line once, in this order: the main process alone speaks and writes.
        assert [line.partition(": ")[0] for line in lines] == [
            "rows", "rows", "train", "train", "total", "total",
        ]  # fmt: skip
        assert [line.partition(": ")[2].startswith("done in") for line in lines] == [
            False, True,
        ] * 3  # fmt: skip
    # The function stage ran once.
    assert (outer / "chain/rows/runs.txt").read_text() == "ran\n"
    for runs in (own, outer):
        # Own processes, the same command, in one process: nothing is left to do.
        done = warm.run(CHAIN, f"--runs={runs}")
        assert done.out == "rows: done\ntrain: done\ntotal: done\n"


def test_the_recipe_decides_not_the_launcher_s_configuration(warm: Warm, tmp_path: Path) -> None:
    """What `accelerate launch` has in its file for other programs changes nothing."""
    told: dict[str, str | None] = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DYNAMO_BACKEND": "EAGER",
    }
    for name, env in (("plain", {}), ("told", told)):
        done = warm.run(CHAIN, f"--runs={tmp_path / name}", env=env)
        assert done.code == 0, done.err
    assert weights(tmp_path / "plain") == weights(tmp_path / "told")


def test_work_comes_whole_to_other_processes(tmp_path: Path) -> None:
    stage = Total()
    work = Work(
        name="total",
        stage=stage,
        directory=tmp_path,
        outputs={Output("train", "weights"): tmp_path / "weights"},
        data_roots=("one", "/two"),
    )
    assert Work.from_plain(json.loads(json.dumps(work.plain())), stage) == work


def test_ranks_of_an_outer_launcher_redo_and_stop_together(warm: Warm, tmp_path: Path) -> None:
    runs = f"--runs={tmp_path}"
    assert warm.run(CHAIN, runs, world=2).codes == [0, 0]
    done = warm.run(CHAIN, runs, "--train.optim.lr=0.02", world=2)
    assert done.codes == [2, 2]
    assert done.err.count("optim.lr: made with 0.01, now 0.02") == 1
    done = warm.run(CHAIN, runs, "--redo=all", world=2)
    assert done.codes == [0, 0]
    assert done.out.count("done in") == 3
    done = warm.run(CHAIN, runs, "--train.optim.lrr=1", world=2)
    assert done.codes == [2, 2]
    assert done.err.count("lrr") == 1


def test_a_task_of_srun_without_a_rank_does_not_run(warm: Warm, tmp_path: Path) -> None:
    """It would run the experiment beside the others, in the same folder."""
    done = warm.run(CHAIN, f"--runs={tmp_path}", env={"SLURM_PROCID": "3"})
    assert done.code == 2
    assert "this is task 3 of srun and has no RANK: let srun start one task a machine" in done.err
    done = warm.run(CHAIN, f"--runs={tmp_path}", "--only=rows", env={"SLURM_PROCID": "0"})
    assert done.code == 0, done.err


def test_a_split_that_does_not_fit_the_outer_launcher(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", world=3)
    assert 2 in done.codes and 0 not in done.codes
    assert done.err.count("data.global_batch=8 doesn't split over 3 processes") == 1


def saved(runs: Path) -> bool:
    return any(runs.glob("chain/train/checkpoints/step-*"))


def test_killing_the_launcher_takes_its_ranks_along(warm: Warm, tmp_path: Path) -> None:
    variable = "--environment.nccl_p2p_level=NVL"
    launcher = warm.start(CHAIN, f"--runs={tmp_path}", TWO, *SLOW, variable)
    launcher.until(lambda: saved(tmp_path))
    ranks = children(launcher.pids[0])
    assert len(ranks) == 2 and all(map(alive, ranks))
    for pid in ranks:
        assert b"NCCL_P2P_LEVEL=NVL" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    launcher.kill()
    limit = time.monotonic() + 10
    while any(map(alive, ranks)):
        assert time.monotonic() < limit, "ranks outlive their launcher"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_on_a_rank_is_said_once(warm: Warm, tmp_path: Path, workers: int) -> None:
    """A sample that one rank draws can't be read: the others fail by its absence, in silence."""
    bad = [f"--train.hardware.loader_workers={workers}", "--train.bad_row=7"]
    for world in (1, 2):
        runs = tmp_path / str(world)
        done = warm.run(CHAIN, f"--runs={runs}", *bad, world=world)
        assert 2 in done.codes and 0 not in done.codes
        message = f"{runs}/chain/rows/rows.npy: row 7 can't be read: mend it\n"
        assert done.err.count("row 7 can't be read: mend it") == 1
        assert message in done.err
        assert "Traceback" not in done.err and "Error" not in done.err


def test_failures_of_own_processes(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", TWO, "--train.bad_row=7")
    assert done.code == 2
    assert done.err.count("row 7 can't be read: mend it") == 1
    assert "Traceback" not in done.err
    failure = json.loads((tmp_path / "chain/train/failure.json").read_text())
    assert failure["message"].endswith("row 7 can't be read: mend it")

    done = warm.run(CHAIN, f"--runs={tmp_path}", TWO, "--train.bug_row=7", "--redo=train")
    assert done.code == 1
    assert done.err.count("RuntimeError: a bug at row 7") == 1
    assert "train: a process failed; its traceback stands above" in done.err


def test_bad_input_on_an_own_process_alone(warm: Warm, tmp_path: Path) -> None:
    """DeepSpeed has a process of its own even where it is the only one."""
    alone = "--train.deepspeed.zero_stage=1"
    done = warm.run(CHAIN, f"--runs={tmp_path}", alone, "--train.bad_row=7")
    assert done.code == 2
    assert done.err.count("row 7 can't be read: mend it") == 1
    assert "Traceback" not in done.err


def test_a_rank_that_is_killed_ends_the_run(warm: Warm, tmp_path: Path) -> None:
    launcher = warm.start(CHAIN, f"--runs={tmp_path}", TWO, *SLOW)
    launcher.until(lambda: saved(tmp_path))
    os.kill(children(launcher.pids[0])[1], signal.SIGKILL)
    done = launcher.wait()
    assert done.code == 2
    assert "train: a process was ended by SIGKILL: see whether the machine ran out of" in done.err
