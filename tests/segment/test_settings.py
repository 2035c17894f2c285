"""Flags of segmentation and evaluation: what they accept, and what is said of wrong ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from seethrough.evaluate import settings as evaluate
from seethrough.recipe import Hub, Local, RecipeError
from seethrough.recipe.base import facts
from seethrough.segment import settings as segment

FROM = "--from=runs/chain"


def test_a_command_line_is_taken_apart() -> None:
    command = segment.parse(["a.jpg", "folder", "--model=hub:a/b@v1", "--prompt", "file:d/e"])
    assert command.images == ("a.jpg", "folder")
    assert command.settings.model == Hub("a/b", "v1")
    assert command.settings.prompt == Local("d/e")
    assert command.run is None and command.out == Path("segmented")


def test_evaluation_has_the_same_flags_and_more() -> None:
    command = evaluate.parse(["data", FROM, "--pictures", "--grid=1024", "--batch=4"])
    assert (command.root, command.run, command.out) == (
        Path("data"), Path("runs/chain"), Path("evaluated"),
    )  # fmt: skip
    settings = command.settings
    assert (settings.split, settings.difficulty) == ("test", "mix")
    assert (settings.grid, settings.pictures, settings.batch) == (1024, True, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FROM], "no photo given"),
        (["a.jpg"], "no model given; choose one:\n  --model=file:FOLDER, --model=hub:"),
        (["a.jpg", FROM, "--model=file:b"], "--model=file:b and --from=runs/chain: give one"),
        (["a.jpg", FROM, "--sede=7"], r"--sede: no such flag; did you mean seed\?"),
        (["a.jpg", FROM, "--batch=0"], "--batch: given '0'; accepted: int > 0"),
        (["a.jpg", FROM, "--prompt=hub:a/b"], "--prompt: .*accepted: file:path"),
        (["a.jpg", FROM, "--posterior=mode"], "--posterior: given 'mode'"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        segment.parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([FROM], "given nothing: write python -m seethrough.evaluate TRANS10K"),
        (["a", "b", FROM], "given a b: write"),
        (["a", FROM, "--xattr"], "--xattr: attributes of which files"),
        (["a", FROM, "--split=val"], "--split: given 'val'"),
        (["a"], "no model given"),
    ],
)
def test_what_is_wrong_with_an_evaluation_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        evaluate.parse(arguments)


@pytest.mark.parametrize(
    ("text", "settings"),
    [(segment.help_text(), segment.ModelSettings), (evaluate.help_text(), evaluate.Settings)],
)
def test_help_explains_every_flag(text: str, settings: type[segment.ModelSettings]) -> None:
    for name, field in facts(settings).fields.items():
        assert f"--{name}" in text and field.doc in text


def test_help_answers_without_torch() -> None:
    for program in ("segment.__main__", "segment.export", "evaluate.__main__"):
        code = f"import sys; from seethrough.{program} import main; main(['--help'])"
        ending = "; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code + ending], check=True, capture_output=True)
