"""The published configurations, and what their import says and changes."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path

from seethrough.import_yaml.__main__ import main
from seethrough.recipe import differences, load, show_value
from seethrough.recipe.base import facts

FOLDER = Path(__file__).parent / "published"

CASES: Mapping[str, tuple[str, ...]] = {
    "test_layerdiff": (),
    "finetune_layerdiff_iter2": (),
    "test_layerdiff3d": (),
    "marigold2d": (),
    "marigold3d": (),
    "test_depth": (),
    "test_vae": (),
    "test_partseg-1": ("--part=1",),
    "test_partseg-2": ("--part=2",),
    "config": (),
}
"""Flags by name; what follows a dash tells two of one file apart."""


def imported(case: str, folder: Path) -> str:
    """What a case's import prints, and the values that its experiment changes.

    Writes the experiment into `folder`, which is the current one.
    """
    file = Path(case.replace("-", "_") + ".py")
    config = FOLDER / f"{case.partition('-')[0]}.yaml"
    copy = folder / config.name
    copy.write_bytes(config.read_bytes())
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([config.name, str(file), *CASES[case]])
    assert code == 0, case
    experiment = load(file).experiment
    base = facts(type(experiment).__mro__[1]).default  # pyright: ignore[reportArgumentType]
    lines = [
        f"{one.path}: {show_value(one.a)} -> {show_value(one.b)}"
        for one in differences(base, experiment)
    ]
    return said.getvalue() + "\n" + "\n".join(lines) + "\n"
