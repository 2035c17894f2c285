"""What the launchers start, where, and with which arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.conftest import ROOT, Project


def test_local_runs_in_the_root_from_any_folder(ready_project: Project, tmp_path: Path) -> None:
    result = ready_project.launch("local.sh", "experiments/x.py", "plan", "--a.b=c d", cwd=tmp_path)
    root = ready_project.root
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"prefix {root}/.venv",
        f"cwd {root}",
        "arguments experiments/x.py plan --a.b=c d",
        f"extensions {root}/.venv/torch_extensions",
    ]


def test_rehearse_names_the_experiment_and_passes_flags_on(ready_project: Project) -> None:
    result = ready_project.launch("rehearse.sh", "--redo=inflate")
    assert (result.returncode, result.stderr) == (0, "")
    expected = "arguments experiments/layerdiff3d_v3.py rehearse --redo=inflate"
    assert expected in result.stdout.splitlines()


def test_the_launchers_exit_status_is_the_runs(ready_project: Project) -> None:
    result = ready_project.launch("local.sh", "--exit=3")
    assert result.returncode == 3


@pytest.mark.parametrize(("variables", "code"), [({"CI": "true"}, 1), ({"CI": ""}, 0)])
def test_a_skipped_test_fails_in_ci_only(
    tmp_path: Path, variables: dict[str, str], code: int
) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_passes():\n    pass\n"
        "@pytest.mark.skip(reason='no browser')\ndef test_skips():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, tmp_path]
    result = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stdout
    assert "1 passed, 1 skipped" in result.stdout
    assert ("CI: 1 skipped, which counts as failed" in result.stdout) == bool(code)
