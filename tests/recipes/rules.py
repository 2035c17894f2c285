"""An experiment's values beside published ones, and what resolving it with others says."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from seethrough.recipe import RecipeError, load, show_value

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
V3 = EXPERIMENTS / "layerdiff3d_v3.py"


def values(experiment: Path) -> dict[str, str]:
    """All values as text, by path."""
    return {path: show_value(value) for path, value in load(experiment).values().items()}


def not_as_published(experiment: Path, published: Iterable[tuple[str, str, str]]) -> list[str]:
    """Which values differ; each published one is a path, the value as text, and who says so."""
    found = values(experiment)
    return [
        f"{path}: {found.get(path)}, published {value} ({section})"
        for path, value, section in published
        if found.get(path) != value
    ]


def problems(experiment: Path, *flags: str) -> list[str]:
    """The problems of an experiment under `path=value` flags, one a line: `path: what`."""
    pairs = [tuple(flag.split("=", 1)) for flag in flags]
    draft = load(experiment).override([(path, text) for path, text in pairs])
    with pytest.raises(RecipeError) as caught:
        draft.resolve()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def is_accepted(experiment: Path, *flags: str) -> bool:
    """Whether an experiment resolves under `path=value` flags."""
    pairs = [tuple(flag.split("=", 1)) for flag in flags]
    load(experiment).override([(path, text) for path, text in pairs]).resolve()
    return True
