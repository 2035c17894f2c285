"""The measurements are complete, and what they compare does the same work."""

import json
from pathlib import Path
from typing import Any

import pytest

from seethrough.bench.__main__ import main
from seethrough.bench.parts import BARE, PARTS
from seethrough.bench.setting import SIZES, made
from seethrough.bench.step import BareLoop, engine_loop, prepare
from seethrough.bench.timing import cpu_times, ratio


def figures(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a command line writes."""
    path = tmp_path / "figures.json"
    assert main([*arguments, f"--json={path}"]) == 0
    return json.loads(path.read_text())


def test_both_loops_take_the_same_steps():
    """Given the same batches they end in the same weights: neither does less than the other."""
    with made(SIZES["small"], steps=3) as task, engine_loop(task) as engine:
        bare = BareLoop(task)
        start = [value.detach().clone() for value in bare.network.parameters()]
        for _ in range(3):
            batches = engine.take()
            prepared = prepare(task, batches[0])
            engine.update(batches)
            bare.step(prepared)
        assert engine.run.step == 3
        (step,) = {int(state["step"]) for state in bare.optimizer.state.values()}
        assert step == 3
        trained = engine.run.distribution.weights()
        bare_weights = bare.network.state_dict().items()
        for (name, value), before in zip(bare_weights, start, strict=True):
            if "group_embeds" in name:
                continue  # those of the group that no sample had stay as they were
            moved = float((value - before).norm())
            assert moved > 0, name
            assert float((trained[name] - value).norm()) < 1e-3 * moved, name


def test_step_tells_all_of_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = figures(tmp_path, "step", "--size=small", "--pairs=2")
    assert found["size"] == "small" and found["pairs"] == 2 and found["parameters"] > 1e5
    assert found["bare_cpu_s"] > 0 and found["engine_cpu_s"] > 0
    spread = found["engine_to_bare"]
    assert 0.5 < spread["low"] <= spread["median"] <= spread["high"] < 5
    assert f"engine to bare: {spread['median']:.3f}" in capsys.readouterr().out


def test_parts_tell_what_the_cache_and_the_table_save(tmp_path: Path):
    found = figures(tmp_path, "parts", "--size=small", "--pairs=2")
    parts = {part["name"]: part for part in found["parts"]}
    assert set(parts) == {BARE, *PARTS} and found["frames"] == 13
    assert parts[BARE]["to_bare"]["median"] == 1
    assert parts["look text up"]["cpu_s"] < parts["encode text"]["cpu_s"] / 4
    assert parts["read latents"]["cpu_s"] < parts["encode pictures"]["cpu_s"] / 4
    assert parts["checkpointed step"]["to_bare"]["median"] > 1.1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["step", "--seize=small"], "--seize=small"),
        (["step", "--size=huge"], "huge"),
        (["stride"], "stride"),
        (["step", "--pairs=1"], "--pairs=1"),
        ([], "measurement"),
    ],
)
def test_bad_command_lines_say_what_is_wrong(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert told in capsys.readouterr().err


def test_works_run_in_turn_and_ratios_are_of_the_same_round():
    ran: list[str] = []
    times = cpu_times({name: lambda name=name: ran.append(name) for name in "ab"}, 3)
    assert "".join(ran) == "abbaab"
    assert [len(taken) for taken in times.values()] == [3, 3]
    spread = ratio([2.0, 6.0, 40.0], [1.0, 2.0, 10.0])
    assert (spread.median, spread.total) == (3.0, 48 / 13)
