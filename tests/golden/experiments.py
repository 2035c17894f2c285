"""The values of an experiment as the text of its golden file."""

import json
from pathlib import Path

from seethrough.recipe import load, show_value

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))


def golden_file(experiment: Path) -> Path:
    """Where the values of an experiment are kept."""
    return Path(__file__).parent / "experiments" / f"{experiment.stem}.json"


def values(experiment: Path) -> dict[str, str]:
    """Every value as text, by path."""
    return {path: show_value(value) for path, value in load(experiment).values().items()}


def render_values(experiment: Path) -> str:
    """The golden file's text."""
    return json.dumps(values(experiment), indent=1, ensure_ascii=False) + "\n"
