"""Samples that can't be read: the run stops, or goes on without them, the same on any machine."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seethrough.engine.bad_samples import FILE, count, note
from tests.engine.conftest import CHAIN, record, weights
from tests.processes import Warm

SKIP = "--train.data.bad_samples=skip"
BAD = "--train.bad_row=7"


def listed(runs: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (runs / "chain/train" / FILE).read_text().splitlines()]


def test_a_sample_is_listed_once_by_however_many(tmp_path: Path) -> None:
    names = [f"row {number % 10}" for number in range(100)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda name: note(tmp_path, name, "broken"), names))
    assert sum(new) == count(tmp_path) == 10
    entries = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert {entry["sample"] for entry in entries} == set(names)
    assert all(entry["error"] == "broken" for entry in entries)


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path: Path) -> None:
    assert count(tmp_path) == 0
    note(tmp_path, "ä.png", "broken\u2028beyond mending")
    with (tmp_path / FILE).open("ab") as file:
        file.write('{"sample": "ö'.encode()[:-1])
    assert count(tmp_path) == 1
    assert note(tmp_path, "ö.png", "broken") and not note(tmp_path, "ä.png", "broken")
    assert count(tmp_path) == 2
    assert (tmp_path / FILE).read_text().count("\n") == 2


@pytest.mark.parametrize("options", [[], ["--train.hardware.loader_workers=1"]])
def test_a_run_stops_at_a_bad_sample(warm: Warm, tmp_path: Path, options: list[str]) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", BAD, *options)
    assert done.code != 0 and "row 7 can't be read: mend it" in done.err
    assert not (tmp_path / "chain/train" / FILE).exists()


def test_a_run_goes_on_without_a_bad_sample_the_same_everywhere(warm: Warm, tmp_path: Path) -> None:
    """With any number of loader workers, and over two ranks; the sample is named once."""
    hashes: set[str] = set()
    for name, world, options in (
        ("plain", 1, []),
        ("workers", 1, ["--train.hardware.loader_workers=2"]),
        ("ranks", 2, ["--train.hardware.loader_workers=1"]),
    ):
        runs = tmp_path / name
        done = warm.run(CHAIN, f"--runs={runs}", SKIP, BAD, *options, world=world)
        assert done.codes == [0] * world, done.err
        (entry,) = listed(runs)
        assert entry["sample"] == "row 7" and "row 7 can't be read" in entry["error"]
        assert record(runs, "train")["metrics"]["bad_samples"] == 1
        assert "bad_samples 1" in done.out
        assert done.out.count("train: left out row 7: ") == 1
        if world == 1:
            hashes.add(weights(runs))
    assert len(hashes) == 1


def test_a_resumed_run_leaves_out_the_same(warm: Warm, tmp_path: Path) -> None:
    arguments = [CHAIN, SKIP, BAD]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert warm.run(*arguments, f"--runs={whole}").code == 0
    running = warm.start(*arguments, f"--runs={cut}", "--train.pause=0.05")
    while not (cut / "chain/train/checkpoints/step-00000002").exists():
        assert not (cut / "chain/train/record.json").exists()
    running.kill()
    done = warm.run(*arguments, f"--runs={cut}")
    assert done.code == 0 and "resumed after step" in done.out
    assert weights(cut) == weights(whole)
    assert listed(cut) == [
        {**entry, "error": entry["error"].replace("/whole/", "/cut/")} for entry in listed(whole)
    ]


def test_a_run_without_bad_samples_says_nothing_of_them(warm: Warm, tmp_path: Path) -> None:
    done = warm.run(CHAIN, f"--runs={tmp_path}", SKIP)
    assert done.code == 0 and "bad_samples" not in record(tmp_path, "train")["metrics"]
    assert not (tmp_path / "chain/train" / FILE).exists()
