"""Writes the golden texts: `python -m tests.import_yaml`."""

import contextlib
import tempfile
from pathlib import Path

from tests.import_yaml.published import CASES, FOLDER, imported

for case in CASES:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        (FOLDER / f"{case}.txt").write_text(imported(case, Path(folder)))
