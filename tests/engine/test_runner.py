"""Stages in order: skipped, drifted, made again, accepted, adopted."""

import json
import shutil
from pathlib import Path

import pytest

from seethrough.engine.runner import adopt, run
from seethrough.errors import InputError
from seethrough.recipe import Resolved, load
from tests.engine.conftest import CHAIN, record, weights
from tests.processes import ROOT, Warm


@pytest.fixture(scope="module")
def finished(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("finished")
    scale = runs / "scale.txt"
    scale.with_name("number").write_text("2.0")
    assert warm.run(CHAIN, f"--runs={runs}", f"--rows.scale=file:{runs}/number").code == 0
    return runs


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished experiment, elsewhere."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def chain(runs: Path, *flags: tuple[str, str]) -> Resolved:
    given = {"rows.scale": f"file:{runs}/number", **dict(flags)}
    return load(ROOT / CHAIN).override(given.items()).resolve()


def refusal(resolved: Resolved, runs: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        run(resolved, runs, **options)
    return str(caught.value)


def test_moved_runs_and_data_and_other_execution_are_skipped(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "number").rename(runs / "moved")
    other = chain(
        runs,
        ("train.hardware.loader_workers", "3"),
        ("train.tracking.project", "other"),
        ("train.schedule.log_every", "1"),
    )
    moved = other.override([("rows.scale", f"file:{runs}/moved")]).resolve()
    run(moved, runs)
    assert capsys.readouterr().out == "rows: done\ntrain: done\ntotal: done\n"
    # An input that is gone says nothing against what was made from it.
    run(other, runs)
    assert capsys.readouterr().out == "rows: done\ntrain: done\ntotal: done\n"


def test_data_in_several_roots(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (runs / "number").rename(first / "number")
    roots = f"{second},{first}"
    given = {"rows.scale": "file:number", "environment.data_roots": roots}
    resolved = chain(runs, *given.items())
    run(resolved, runs)
    # Moved to another root, it is the same.
    first.rename(second)
    run(resolved, runs)
    assert capsys.readouterr().out == "rows: done\ntrain: done\ntotal: done\n" * 2
    shutil.copytree(second, first)
    run(resolved, runs, only="rows", redo="rows")
    out = capsys.readouterr().out
    assert out.startswith(
        f"rows: scale: file:number is taken from {second}/number, not from {first}/number\n"
    )
    assert record(runs, "rows")["environment"]["data_roots"] == f"({second}, {first})"
    (second / "number").write_text("3.0")
    assert "  scale: made with file:sha256:" in refusal(resolved, runs)
    (second / "number").unlink()
    (first / "number").unlink()
    message = refusal(resolved, runs, redo="rows")
    assert f"rows.scale: number does not exist (looked in the working directory {ROOT}" in message
    assert f", in {second} and in {first})" in message


def test_drift_is_told_field_by_field_before_anything_runs(runs: Path) -> None:
    before = record(runs, "rows")
    changed = chain(runs, ("train.optim.lr", "0.02"), ("train.width", "8"), ("train.seed", "1"))
    message = refusal(changed, runs)
    assert f"{runs}/chain/train: this stage was made with other values:\n" in message
    drifts = [line for line in message.splitlines() if line.startswith("  ")]
    assert drifts == [
        "  seed: made with 42, now 1",
        "  optim.lr: made with 0.01, now 0.02",
        "  width: made with 16, now 8",
    ]
    assert "--redo=train makes it again" in message and "--accept=train keeps it" in message
    # Made again, it would be another one than the next stage was made from.
    message = refusal(changed, runs, redo="train")
    assert "\n  weights (fingerprint of stage:train/weights): made with " in message
    assert "--from_stage=train --redo=all makes all again" in message
    assert record(runs, "rows") == before

    (runs / "number").write_text("3.0")
    message = refusal(chain(runs), runs)
    assert "  scale: made with file:sha256:" in message


def test_drift_of_an_unfinished_stage(warm: Warm, runs: Path) -> None:
    whole = weights(runs)
    train = runs / "chain/train"
    (train / "record.json").unlink()
    shutil.rmtree(train / "checkpoints/step-00000006")
    message = refusal(chain(runs, ("train.optim.lr", "0.02")), runs)
    assert "  optim.lr: made with 0.01, now 0.02" in message

    given = [CHAIN, f"--runs={runs}", f"--rows.scale=file:{runs}/number", "--train.optim.lr=0.02"]
    done = warm.run(*given, "--accept=train", "--only=train")
    assert done.code == 0, done.err
    assert "resumed after step 4" in done.out
    # The rest was trained with the new rate, and the record says so.
    assert weights(runs) != whole
    log = [json.loads(line) for line in (train / "log.jsonl").read_text().splitlines()]
    assert [line["lr/others"] for line in log] == [0.01, 0.01, 0.02]
    (accepted,) = record(runs, "train")["accepted"].values()
    assert accepted == ["optim.lr: made with 0.01, now 0.02"]


def test_accepted_drift_is_noted_and_skipped(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = chain(runs, ("train.optim.lr", "0.02"))
    before = record(runs, "train")
    run(changed, runs, accept="train")
    run(changed, runs)
    run(chain(runs), runs)
    assert capsys.readouterr().out == "rows: done\ntrain: done\ntotal: done\n" * 3
    after = record(runs, "train")
    assert list(after.pop("accepted").values()) == [["optim.lr: made with 0.01, now 0.02"]]
    before.pop("accepted")
    assert after == before


def test_redo_makes_again_and_later_stages_notice(warm: Warm, runs: Path) -> None:
    scale = f"--rows.scale=file:{runs}/number"
    given = [CHAIN, f"--runs={runs}", scale]
    (runs / "chain/train/stray").touch()
    done = warm.run(*given, "--redo=train", "--only=train")
    assert done.code == 0, done.err
    assert not (runs / "chain/train/stray").exists()
    # The same bytes again: nothing to say about what was made from them.
    assert "total: done\n" in warm.run(*given).out
    # Other bytes under the same values.
    path = runs / "chain/train/record.json"
    content = json.loads(path.read_text())
    content["artifacts"]["weights"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    done = warm.run(*given)
    assert done.code == 2
    assert "weights (sha256 of stage:train/weights): made with " in done.err
    assert "now 0000000000000000" in done.err
    done = warm.run(*given, "--redo=all", "--from_stage=train")
    assert done.code == 0
    assert done.out.startswith("train: Trains a perceptron on the rows.\n")
    assert done.out.count("done in") == 2


def test_what_a_stage_of_one_process_left_half_done_is_cleared(runs: Path) -> None:
    total = runs / "chain/total"
    (total / "record.json").unlink()
    (total / "stray").touch()
    run(chain(runs), runs)
    assert sorted(path.name for path in total.iterdir()) == [
        "count", "record.json", "started.json", "total",
    ]  # fmt: skip


def test_a_record_that_cannot_be_read(runs: Path) -> None:
    path = runs / "chain/total/record.json"
    good = json.loads(path.read_text())
    for bad in ("{", "[]", '{"schema": 1}', json.dumps({**good, "artifacts": 3}), b"\xff"):
        path.write_bytes(bad if isinstance(bad, bytes) else bad.encode())
        message = refusal(chain(runs), runs)
        assert message.startswith(f"{path}: can't read this record (")
        assert "run with --redo=total to make the stage again" in message
    path.write_text(json.dumps({**good, "schema": 99}))
    assert f"{path}: record of schema 99, this version reads 1" in refusal(chain(runs), runs)
    run(chain(runs), runs, redo="total")  # as the message says
    assert {**record(runs, "total"), "seconds": 0, "git": 0} == {**good, "seconds": 0, "git": 0}


def test_the_record(runs: Path) -> None:
    made = record(runs, "train")
    assert made.keys() == {
        "schema", "stage", "experiment", "fingerprint", "config", "execution", "inputs",
        "artifacts", "metrics", "git", "versions", "seconds", "environment", "adopted", "accepted",
    }  # fmt: skip
    assert (made["schema"], made["stage"], made["experiment"]) == (1, "train", "chain")
    assert made["config"]["optim.lr"] == "0.01" and made["execution"]["hardware.threads"] == "1"
    assert not made["config"].keys() & made["execution"].keys()
    rows = record(runs, "rows")
    assert made["environment"]["data_roots"] == "(workspace/datasets,)"
    assert made["inputs"] == {
        "data.sources.0.0": {
            "source": "stage:rows/rows",
            "identity": rows["fingerprint"],
            "content": rows["artifacts"]["rows"]["sha256"],
        }
    }
    assert rows["inputs"]["scale"]["identity"].startswith("sha256:")
    assert rows["metrics"] == {"rows": 20.0}
    assert len(made["git"]["commit"]) == 40 and isinstance(made["git"]["dirty"], bool)
    assert {"python", "torch", "accelerate", "safetensors"} <= made["versions"].keys()
    assert 0 < made["seconds"] < 60


def test_adopted_artifacts_stand_in_for_a_stage(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"\x01\x02")
    new = tmp_path / "new"
    resolved = chain(runs)
    with pytest.raises(InputError, match="does not exist"):
        adopt(resolved, new, "train", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"did you mean train\?"):
        adopt(resolved, new, "trian", outside)
    with pytest.raises(InputError, match="holds what the stage made itself"):
        adopt(resolved, runs, "train", outside)
    adopt(resolved, new, "train", outside)
    run(resolved, new, only="total")
    assert (new / "chain/total/total").read_text() == "3"
    capsys.readouterr()
    run(resolved, new, from_stage="train")
    assert capsys.readouterr().out == "train: adopted\ntotal: done\n"
    # Another one in its place: what was made from the first has drifted.
    outside.write_bytes(b"\x07")
    adopt(resolved, new, "train", outside)
    assert "weights (fingerprint of stage:train/weights)" in refusal(resolved, new, only="total")
    # Several outputs: a folder that has each by name.
    with pytest.raises(InputError, match=r"count does not exist; the stage makes total, count"):
        (tmp_path / "both").mkdir()
        (tmp_path / "both/total").write_text("5")
        adopt(resolved, new, "total", tmp_path / "both")
    (tmp_path / "both/count").write_text("1")
    shutil.rmtree(new / "chain/total")
    adopt(resolved, new, "total", tmp_path / "both")
    assert record(new, "total")["artifacts"].keys() == {"total", "count"}


def test_wrong_names_and_missing_inputs(runs: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert "did you mean train?" in refusal(chain(runs), new, only="trian")
    assert "--redo=rows: no such stage here" in refusal(chain(runs), new, redo="rows", only="train")
    message = refusal(chain(runs), new, only="total")
    assert "total.weights: stage:train/weights is not made yet: run train first" in message
    absent = chain(runs, ("rows.scale", "file:nowhere/number"))
    message = refusal(absent, new)
    assert "rows.scale: nowhere/number does not exist (looked in the working directory " in message
    (runs / "chain/train/weights.safetensors").unlink()
    message = refusal(chain(runs), runs, only="total", redo="total")
    assert "stage:train/weights is gone from" in message and "--redo=train" in message
    assert not (new / "chain").exists()
