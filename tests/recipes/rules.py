"""What resolving an experiment with other values says."""

from pathlib import Path

import pytest

from seethrough.recipe import RecipeError, load

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
V3 = EXPERIMENTS / "layerdiff3d_v3.py"


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
