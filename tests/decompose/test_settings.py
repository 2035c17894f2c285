"""Flags of decomposition: what they accept, and what is said of those that are wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from seethrough.decompose.__main__ import main
from seethrough.decompose.settings import DEPTH_MODELS, LAYER_MODELS, Settings, help_text, parse
from seethrough.recipe import Hub, Local, RecipeError
from seethrough.recipe.base import facts

FROM = "--from=runs/chain"


def test_a_command_line_is_taken_apart() -> None:
    command = parse(["--split", "a.png", "folder", "--layers=hub:a/b@v1", "--depth", "file:d/e"])
    assert command.images == ("a.png", "folder")
    assert command.settings.split and not command.settings.pngs
    assert command.settings.layers == Hub("a/b", "v1")
    assert command.settings.depth == Local("d/e")
    assert command.run is None and command.out == Path("decomposed")


def test_folders_are_flags_too() -> None:
    command = parse(["a.png", "--from", "runs/chain", "--out=results", "--seed=7"])
    assert (command.run, command.out) == (Path("runs/chain"), Path("results"))
    assert command.settings == Settings(seed=7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FROM], "no image given"),
        (["a.png", FROM, "--sede=7"], r"--sede: no such flag; did you mean seed\?"),
        (["a.png", "--form=runs/chain"], r"--form: no such flag; did you mean from"),
        (["a.png", FROM, "--seed=1", "--seed=2"], "--seed: given twice, '1' and '2'"),
        (["a.png", FROM, "--seed=-1"], "--seed: given '-1'; accepted: int >= 0"),
        (["a.png", FROM, "--resolution=1.5"], "--resolution: given '1.5'; accepted: int > 0"),
        (["a.png", FROM, "--split=no"], "--split: given 'no', but it is a switch"),
        (["a.png", "--layers=some/folder"], "--layers: .*accepted: hub:org/name.* or file:path"),
        (["a.png", "--layers"], "--layers: given no value"),
        (["a.png", "-s"], "-s: no flag"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(arguments)


def test_without_a_model_the_choices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.png"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("no model of layers given; choose one:")
    for name in LAYER_MODELS:
        assert f"--layers={name}" in said
    for name in DEPTH_MODELS:
        assert f"--depth={name}" in said
    assert "--from=FOLDER" in said and "--layers=file:FOLDER" in said


def test_help_explains_every_flag() -> None:
    text = help_text()
    for name, field in facts(Settings).fields.items():
        assert f"--{name}" in text and field.doc in text


def test_help_answers_without_torch() -> None:
    code = "import sys; from seethrough.decompose.__main__ import main; main(['--help'])"
    ending = "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code + ending], check=True, capture_output=True)
