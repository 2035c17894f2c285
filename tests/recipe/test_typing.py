"""What pyright in strict mode says of recipes: it knows the idiom, names and types."""

import textwrap
from pathlib import Path

from tests.recipe.pyright import check

HEAD = """\
from seethrough.recipe import change, recipe
from tests.recipe.family import Adafactor, AdamW, Chain, Train


@recipe
class Made(Chain):
    \"\"\"An experiment.\"\"\"

"""


def errors(folder: Path, body: str) -> list[str]:
    """Errors with lines counted from the body's first."""
    file = folder / "made.py"
    file.write_text(HEAD + textwrap.indent(textwrap.dedent(body).lstrip("\n"), "    "))
    start = HEAD.count("\n")
    found = [error.partition(": ") for error in check(file)]
    return [f"{int(line) - start}: {rule}" for line, _, rule in found]


def test_the_idiom_is_accepted_and_wrong_names_and_types_are_not(tmp_path: Path) -> None:
    body = """
        first: Train = change(Train, optim=change(AdamW, lr=2e-5), steps=3)
        second: Train = change(Train, optim=change(Adafactor, lr=1e-3, scale=None), workers=0)
        third: Train = change(Train, optim=change(AdamW, rate=2e-5))
        fourth: Train = change(Train, optim=change(AdamW, lr="low"))
        fifth: Train = change(Train, stepps=3)
        sixth: Train = change(AdamW, lr=1.0)
        seventh: Train = Train(optim=AdamW(1e-3))

        def rule(self) -> None:
            self.first.steps = 3
            print(self.first.stepps)
    """
    assert {int(error.partition(":")[0]) for error in errors(tmp_path, body)} == {
        3, 4, 5, 6, 7, 10, 11
    }  # fmt: skip
