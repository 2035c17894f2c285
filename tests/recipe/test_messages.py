from pathlib import Path

import pytest

from tests.golden.cases import CLASSES, COMMANDS, class_message, command_message, read_messages


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize("case", COMMANDS)
def test_bad_command_has_its_message(case: str) -> None:
    assert command_message(case).strip("\n") == read_messages("commands.txt")[case]


@pytest.mark.parametrize("case", CLASSES)
def test_bad_class_has_its_message(case: str, tmp_path: Path) -> None:
    assert class_message(case, tmp_path).strip("\n") == read_messages("classes.txt")[case]


def test_no_golden_message_is_left_over() -> None:
    assert list(read_messages("commands.txt")) == list(COMMANDS)
    assert list(read_messages("classes.txt")) == list(CLASSES)
