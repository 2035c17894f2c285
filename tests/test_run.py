"""The command line as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seethrough import run
from seethrough.recipe import RecipeError, load
from seethrough.run import Command, main, parse

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = "experiments/layerdiff3d_v3.py"
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "deepspeed")
LIGHT = (["show"], ["diff"], ["plan"], ["--help"], ["plan", "--memory"], ["show", "--rehearse"])


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_command_line_is_taken_apart() -> None:
    assert parse(["e.py"]) == Command("e.py", "run", (), {}, ())
    assert parse(["e.py", "--a.b=c=d", "--from-stage", "x", "--a.n", "-1"]) == Command(
        "e.py", "run", (), {"from_stage": "x"}, (("a.b", "c=d"), ("a.n", "-1"))
    )
    assert parse(["e.py", "plan", "--memory", "--rehearse"]).options == {
        "memory": "true",
        "rehearse": "true",
    }
    assert parse(["e.py", "adopt", "first", "some/path"]).words == ("first", "some/path")


@pytest.mark.parametrize("text", ["2024_01_02", "1.10", "a,b", "false", "None", "[1]", "", "a b"])
def test_fire_leaves_texts_as_they_are(text: str) -> None:
    assert parse(["e.py", "show", f"--name={text}"]).flags == (("name", text),)


def test_show_prints_the_flag_that_set_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/recipe/chain.py", "show", "--first.optim.lr=2e-5"]) == 0
    line = next(s for s in capsys.readouterr().out.splitlines() if s.startswith("first.optim.lr"))
    assert line.split()[1:] == ["2e-05", "--first.optim.lr", "(command", "line)"]


def test_flags_of_a_rehearsal_are_set_after_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["experiments/layerdiff3d_v3.py", "show", "--rehearse", "--vae.seed=9"]
    assert main([*arguments, "--train_2d.schedule.max_steps=777"]) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = next(line for line in lines if line.startswith("train_2d.schedule.max_steps"))
    assert steps.split()[1:3] == ["777", "--train_2d.schedule.max_steps"]
    assert any(line.startswith("vae.seed") and " 9 " in line for line in lines)


def test_show_of_the_rehearsal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/recipe/chain.py", "show", "--rehearse"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("chain-rehearsal: Longer")
    line = next(s for s in out.splitlines() if s.startswith("first.steps"))
    assert line.split()[1:3] == ["1", "small"]


def test_show_prints_the_table_and_then_the_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/recipe/chain.py", "show", "--second.model=stage:second/unet"]) == 2
    captured = capsys.readouterr()
    assert "second.model" in captured.out
    assert "does not run before second" in captured.err


def test_diff_with_the_base_another_file_and_as_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/recipe/chain.py", "diff"]) == 0
    assert [s.split() for s in capsys.readouterr().out.splitlines()][1] == [
        "first.steps", "200", "100",
    ]  # fmt: skip
    assert main(["tests/recipe/chain.py", "diff", "tests/recipe/chain.py"]) == 0
    assert capsys.readouterr().out == "chain and chain hold the same values\n"
    assert main(["tests/recipe/chain.py", "diff", "--as_code"]) == 0
    assert "first: Train = change(Train, steps=200)" in capsys.readouterr().out


def test_save_as_goes_on_with_the_saved_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "chain_to_save.py"
    base.write_text((ROOT / "tests" / "recipe" / "chain.py").read_text())
    monkeypatch.chdir(tmp_path)
    assert main([str(base), "show", "--first.steps=9", "--save_as=nine.py"]) == 0
    out = capsys.readouterr().out
    assert "saved nine.py" in out and "nine: Nine" in out
    assert "command line" not in out
    assert load("nine.py").values()["first.steps"] == 9


def test_help_lists_verbs_options_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tests/recipe/chain.py", "--help"]) == 0
    out = capsys.readouterr().out
    for name in (*run.VERBS, *(f"--{option}" for option in run.OPTIONS)):
        assert name in out
    assert "--first.steps=200  (int > 0)\n    Optimizer steps." in out
    assert main([]) == 0
    assert "give an experiment's file" in capsys.readouterr().out


def test_a_programming_error_is_not_taken_for_bad_input() -> None:
    assert issubclass(RecipeError, ValueError)
    with pytest.raises(AttributeError):
        main([None])  # pyright: ignore[reportArgumentType]


PROGRAM = """
import json, resource, sys
from seethrough.run import main
code = main({arguments})
used = resource.getrusage(resource.RUSAGE_SELF)
loaded = sorted(set({heavy}) & set(sys.modules))
print(json.dumps([code, used.ru_utime + used.ru_stime, loaded]), file=sys.stderr)
"""


def measure(arguments: list[str]) -> tuple[int, float, list[str]]:
    """Exit code, CPU seconds of the whole process, and heavy modules that it imported."""
    program = PROGRAM.format(arguments=[EXPERIMENT, *arguments], heavy=list(HEAVY))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    code, seconds, loaded = json.loads(done.stderr.splitlines()[-1])
    return code, seconds, loaded


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_answers_take_half_a_second_of_cpu_and_no_torch(arguments: list[str]) -> None:
    seconds = float("inf")
    # What else the machine does can only add to what a run takes.
    for _ in range(5):
        code, seconds, loaded = measure(arguments)
        assert (code, loaded) == (0, [])
        if seconds <= 0.5:
            return
    pytest.fail(f"took {seconds:.2f} s, five times over half a second")


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m seethrough.run experiments/layerdiff3d_v3.py show | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "layerdiff3d_v3: LayerDiff3DV3\n"
    assert done.stderr == ""


def test_save_as_is_refused_under_an_outer_launcher(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    saved = tmp_path / "saved.py"
    assert main(["experiments/layerdiff3d_v3.py", "show", f"--save_as={saved}"]) == 2
    assert "--save_as" in capsys.readouterr().err and not saved.exists()
