"""Writes the golden files afresh: `python -m tests.golden`."""

import sys
import tempfile
from pathlib import Path

from tests.golden.cases import render_messages
from tests.golden.experiments import EXPERIMENTS, golden_file, render_values

with tempfile.TemporaryDirectory() as folder:
    sys.path.append(folder)
    for path, text in render_messages(Path(folder)).items():
        path.write_text(text)
for experiment in EXPERIMENTS:
    golden_file(experiment).write_text(render_values(experiment))
