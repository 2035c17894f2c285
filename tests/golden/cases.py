"""Bad input to the recipe language, and the one message that each case is answered with."""

import contextlib
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path

from seethrough.recipe import RecipeError
from seethrough.recipe.experiment_file import load_class
from seethrough.run import main

MESSAGES = Path(__file__).parent / "messages"

COMMANDS = (
    "--first.steps=1",
    "no_such_file.py",
    "tests",
    "pyproject.toml",
    "CHAIN plann",
    "CHAIN show extra",
    "CHAIN diff a.py b.py",
    "CHAIN adopt first",
    "CHAIN show --first.optm.lr=1",
    "CHAIN show --first.lr=1",
    "CHAIN show --frist.optim.lr=1",
    "CHAIN show --xyz=1",
    "CHAIN show --first.steps.more=1",
    "CHAIN show --first.steps=abc",
    "CHAIN show --first.steps=0",
    "CHAIN show --first.steps=1.5",
    "CHAIN show --first.optim.lr=-1e-4",
    "CHAIN show --first.every.flag=True",
    "CHAIN show --first.every.mode=quick",
    "CHAIN show --first.every.colour=rgb",
    "CHAIN show --first.every.limit=None",
    "CHAIN show --first.every.pair=1",
    "CHAIN show --first.every.boxes=(1,2)",
    "CHAIN show --first.every.base=org/name",
    "CHAIN show --first.every.share=2",
    "CHAIN show --first.every.parts.5.rate=1",
    "CHAIN show --first.every.parts.0.rate=none",
    "CHAIN show --first.optim=SGD",
    "CHAIN show --first.optim=Adafactor",
    "CHAIN show --first.optim=Adafactor --first.optim.betas=1,2",
    "CHAIN show --first.steps=1 --first.steps=2",
    "CHAIN show --first.steps 1 --first.steps=1",
    "CHAIN show --first.steps",
    "CHAIN show --first.steps --first.batch=2",
    "CHAIN show -s",
    "CHAIN show --only=first",
    "CHAIN plan --memory=yes",
    "CHAIN show --memory",
    "CHAIN show --save_as=tests/recipe/chain.py --first.steps=1",
    "CHAIN show --save_as=new.txt --first.steps=1",
    "CHAIN show --save_as=new.py",
    "CHAIN show --second.model=stage:frist/unet",
    "CHAIN show --second.model=stage:first/unett",
    "CHAIN show --first.model=stage:second/unet",
)

_EXPERIMENT = """
@recipe
class Made(Chain):
    \"\"\"An experiment.\"\"\"
"""
CLASSES: Mapping[str, str] = {
    "override without annotation": '''
        @recipe
        class Low(AdamW):
            """A lower rate."""
            lr = 2e-5
    ''',
    "bare attribute": '''
        @recipe
        class Low(AdamW):
            """A lower rate."""
            learning_rate = 2e-5
    ''',
    "misspelled override": '''
        @recipe
        class Low(AdamW):
            """A lower rate."""
            beta: tuple[float, float] = (0.9, 0.99)
    ''',
    "field without docstring": '''
        @recipe
        class Cosine(Section):
            """A schedule."""
            cycles: int = 1
    ''',
    "field without default": '''
        @recipe
        class Cosine(Section):
            """A schedule."""
            cycles: int
            """How many."""
    ''',
    "class without docstring": """
        @recipe
        class Low(AdamW):
            lr: float = 2e-5
    """,
    "class without recipe": '''
        class Low(AdamW):
            """A lower rate."""
            lr: float = 2e-5
    ''',
    "mutable default": '''
        @recipe
        class Cosine(Section):
            """A schedule."""
            cycles: list[int] = [1]
            """How many."""
    ''',
    "mutable value for a tuple": '''
        @recipe
        class Low(AdamW):
            """Other betas."""
            betas: tuple[float, float] = [0.9, 0.99]
    ''',
    "wider annotation": '''
        @recipe
        class Low(AdamW):
            """A rate or none."""
            lr: float | None = None
    ''',
    "value out of range": '''
        @recipe
        class Low(AdamW):
            """No rate."""
            lr: float = 0.0
    ''',
    "section replaced whole": '''
        @recipe
        class Low(Train):
            """A lower rate."""
            optim: AdamW = AdamW(lr=2e-5)
    ''',
    "section replaced whole inside a change": '''
        @recipe
        class Low(Chain):
            """A lower rate."""
            first: Train = change(Train, optim=AdamW(lr=2e-5))
    ''',
    "unknown name in a change": '''
        @recipe
        class Low(Chain):
            """A lower rate."""
            first: Train = change(Train, optim=change(AdamW, rate=2e-5))
    ''',
    "wrong value in a change": '''
        @recipe
        class Low(Chain):
            """A lower rate."""
            first: Train = change(Train, optim=change(AdamW, lr="low"))
    ''',
    "another class with its own default": '''
        @recipe
        class Factored(Chain):
            """Another optimizer."""
            first: Train = change(Train, optim=change(Adafactor, scale=True))
    ''',
    "field named like a method": '''
        @recipe
        class Odd(Chain):
            """An odd field."""
            stages: int = 2
            """How many."""
    ''',
    "method in place of a field": '''
        @recipe
        class Odd(AdamW):
            """A method."""
            def lr(self) -> float:
                return 1.0
    ''',
    "two experiments": _EXPERIMENT + _EXPERIMENT.replace("Made", "MadeToo"),
    "imported experiments alone": "",
    "syntax error": "class Made(:\n",
    "import error": "import no_such_module\n",
    "error while it is imported": "x = 1 / 0\n",
}

_HEAD = """\
from seethrough.recipe import *
from tests.recipe.family import *
"""


def command_message(command: str) -> str:
    """What a command line says on stderr; asserts the exit code 2 of bad input."""
    words = command.replace("CHAIN", "tests/recipe/chain.py").split()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    assert code == 2, f"{command}: exit code {code}"
    return err.getvalue()


def class_message(case: str, folder: Path) -> str:
    """What loading a file with this class says; the file is called FILE."""
    path = folder / f"case_{'_'.join(case.split())}.py"
    path.write_text(_HEAD + textwrap.dedent(CLASSES[case]))
    try:
        load_class(path)
    except RecipeError as problem:
        return str(problem).replace(str(path), "FILE") + "\n"
    raise AssertionError(f"{case}: the class was made")


def render_messages(folder: Path) -> dict[Path, str]:
    """The golden files of messages, by path."""
    commands = "\n".join(f"$ {case}\n{command_message(case)}" for case in COMMANDS)
    classes = "\n".join(f"$ {case}\n{class_message(case, folder)}" for case in CLASSES)
    return {MESSAGES / "commands.txt": commands, MESSAGES / "classes.txt": classes}


def read_messages(name: str) -> dict[str, str]:
    """The messages of a golden file by case."""
    text = "\n" + (MESSAGES / name).read_text()
    blocks = [block.partition("\n") for block in text.split("\n$ ")[1:]]
    return {case: message.strip("\n") for case, _, message in blocks}
