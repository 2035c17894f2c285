"""Every experiment can be planned, whole and rehearsed, and CI type-checks it in strict mode."""

import tomllib
from pathlib import Path

import pytest

from seethrough.engine.plan import make_plan
from seethrough.recipe import Experiment, load
from seethrough.recipes.training import TrainStage
from tests.golden.experiments import EXPERIMENTS, ROOT

REHEARSED = [
    path
    for path in EXPERIMENTS
    if type(load(path).experiment).rehearsal is not Experiment.rehearsal
]
"""One that is CPU-sized itself has no other rehearsal."""


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_plan_says_what_each_stage_would_do(experiment: Path, tmp_path: Path) -> None:
    resolved = load(experiment).resolve()
    text = make_plan(resolved, tmp_path).text(memory=True)
    assert text.startswith(f"{experiment.stem} in {tmp_path / experiment.stem}\n")
    for name, stage in resolved.stages.items():
        block = text.partition(f"\n\n{name}  [to do]  ")[2].partition("\n\n")[0]
        assert block, name
        if isinstance(stage, TrainStage):
            assert (
                f"{stage.schedule.max_steps:,} steps of {stage.data.global_batch} samples" in block
            )
            assert "\n  memory: " in block, block
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", REHEARSED, ids=lambda path: path.stem)
def test_a_rehearsal_wants_nothing_that_is_missing(experiment: Path, tmp_path: Path) -> None:
    resolved = load(experiment).rehearsal().resolve()
    text = make_plan(resolved, tmp_path).text()
    assert "\nrehearsal: CPU-sized twin" in text
    assert text.count("  [to do]  ") == len(resolved.stages)
    assert "MISSING" not in text and "hub:" not in text


def test_ci_checks_the_types_of_all_of_them() -> None:
    pyright = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    folder = EXPERIMENTS[0].parent.name
    assert folder in pyright["include"] and folder in pyright["strict"]
    assert "exclude" not in pyright and "ignore" not in pyright
    assert "\ncheck pyright\n" in (ROOT / ".ci" / "run").read_text()
