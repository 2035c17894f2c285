"""The experiment of the engine's tests, and what a run of it leaves."""

import json
from pathlib import Path
from typing import Any

CHAIN = "tests/engine/chain.py"


def record(runs: Path, stage: str) -> dict[str, Any]:
    """A stage's record."""
    return json.loads((runs / "chain" / stage / "record.json").read_text())


def weights(runs: Path) -> str:
    """Hash of the exported weights."""
    return record(runs, "train")["artifacts"]["weights"]["sha256"]
