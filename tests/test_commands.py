"""What command lines share: help, errors, exit codes."""

import subprocess
import sys

import pytest

from seethrough.commands import INTERRUPTED, run_command
from seethrough.errors import InputError


def help_text() -> str:
    return "how to"


def run(outcome: list[str] | BaseException) -> int:
    def work(arguments: list[str]) -> list[str]:
        assert arguments == ["picture.png"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return run_command(["picture.png"], help_text, work)


def test_help_is_printed_and_nothing_done(capsys: pytest.CaptureFixture[str]) -> None:
    def work(arguments: list[str]) -> list[str]:
        raise AssertionError(arguments)

    assert run_command(["picture.png", "--help"], help_text, work) == 0
    assert capsys.readouterr().out == "how to\n"


def test_the_exit_code_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().err == ""
    assert run(["a.png: broken", "b.png: empty"]) == 1
    assert capsys.readouterr().err == "failed: 2\n  a.png: broken\n  b.png: empty\n"
    assert run(InputError("--out: no folder")) == 2
    assert capsys.readouterr().err == "--out: no folder\n"
    assert run(KeyboardInterrupt()) == INTERRUPTED
    assert "goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "program", ["decompose", "segment", "evaluate", "hub", "checkpoint", "import_yaml"]
)
def test_a_pipe_that_is_closed_is_no_error(program: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", f"seethrough.{program}", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert errors == b""
