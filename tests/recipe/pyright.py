"""Runs pyright in strict mode over one file, as an editor would."""

import json
import subprocess
import sys
from pathlib import Path

from tests.recipe.files import ROOT


def check(file: Path) -> list[str]:
    """The errors as `line: rule`, in order."""
    file = file.resolve()
    config = {
        "include": [file.name],
        "strict": [file.name],
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
    }
    settings = file.with_suffix(".pyright.json")
    settings.write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "-p", str(settings), "--outputjson"], capture_output=True, text=True
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout
    return [
        f"{found['range']['start']['line'] + 1}: {found.get('rule')}"
        for found in report["generalDiagnostics"]
    ]
