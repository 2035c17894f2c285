"""A changed default shows here, for every experiment that it reaches."""

import json
from pathlib import Path

import pytest

from tests.golden.experiments import EXPERIMENTS, golden_file, values


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_values_are_those_of_the_golden_file(experiment: Path) -> None:
    golden, now = json.loads(golden_file(experiment).read_text()), values(experiment)
    changed = [
        f"{path}: {golden.get(path, '(absent)')} is now {now.get(path, '(absent)')}"
        for path in dict.fromkeys([*golden, *now])
        if golden.get(path) != now.get(path)
    ]
    hint = "\nif this is meant, run `python -m tests.golden`"
    assert not changed, "\n".join(changed) + hint


def test_every_golden_file_has_its_experiment() -> None:
    assert EXPERIMENTS
    kept = {path.stem for path in golden_file(EXPERIMENTS[0]).parent.glob("*.json")}
    assert kept == {path.stem for path in EXPERIMENTS}
