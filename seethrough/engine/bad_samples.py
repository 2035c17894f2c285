"""The list of samples that a stage left out because they can't be read."""

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "bad_samples.jsonl"
"""Name of the list in a stage's folder."""


def note(folder: Path, sample: str, error: str) -> bool:
    """Add a sample to the list in a stage's folder, once; whether it is new there.

    Safe to call from several processes.
    """
    line = json.dumps({"sample": sample, "error": error}, ensure_ascii=False)
    # A kill may have left part of a line, be it part of a character.
    with (folder / FILE).open("a+", encoding="utf-8", errors="replace") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = file.read()
        if any(entry["sample"] == sample for entry in _entries(known)):
            return False
        file.truncate(len(known[: known.rfind("\n") + 1].encode()))
        file.write(line + "\n")
    return True


def count(folder: Path) -> int:
    """Count the samples in the list of a stage's folder."""
    path = folder / FILE
    if not path.exists():
        return 0
    return len(list(_entries(path.read_text(encoding="utf-8", errors="replace"))))


def _entries(text: str) -> Iterator[dict[str, Any]]:
    # Of other signs that end a line, JSON leaves some as they are.
    return (json.loads(line) for line in text.split("\n")[:-1])
