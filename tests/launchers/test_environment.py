"""launchers/environment.sh: when `.venv` is made, updated, made anew and left alone."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.launchers.conftest import ROOT, Project


def test_made_once_then_updated_when_its_sources_change(project: Project) -> None:
    first = project.launch("local.sh")
    assert first.returncode == 0, first.stderr
    assert "Setting up" in first.stderr
    assert project.builds == 1

    again = project.launch("local.sh")
    assert (again.returncode, again.stderr, project.builds) == (0, "", 1)
    assert again.stdout == first.stdout

    kept = project.root / ".venv" / "kept"
    kept.touch()
    for number, name in enumerate(["setup.cfg", "pyproject.toml", "launchers/constraints.txt"], 2):
        with (project.root / name).open("a") as file:
            file.write("# changed\n")
        assert project.launch("local.sh").returncode == 0
        assert project.builds == number, f"{name} changed, the environment did not"
    assert kept.exists(), "an update must not start from nothing"


def test_a_failed_set_up_is_not_taken_for_a_finished_one(project: Project) -> None:
    broken = project.root / "broken"
    broken.touch()
    failed = project.launch("local.sh")
    assert failed.returncode == 1
    assert failed.stdout == "", "nothing may run in half an environment"
    assert "this project cannot be built" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: pip could not install the packages")

    broken.unlink()
    assert project.launch("local.sh").returncode == 0
    assert project.builds == 2


def test_a_moved_project_gets_a_new_environment(project: Project, tmp_path: Path) -> None:
    assert project.launch("local.sh").returncode == 0
    (project.root / ".venv" / "old").touch()
    moved = Project(project.root.rename(tmp_path / "moved"))
    result = moved.launch("local.sh")
    assert result.returncode == 0, result.stderr
    assert f"prefix {moved.root}/.venv\n" in result.stdout
    assert not (moved.root / ".venv" / "old").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(project: Project) -> None:
    assert project.launch("local.sh").returncode == 0
    python = project.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/such/python")
    assert project.launch("local.sh").returncode == 0
    assert project.builds == 2


def test_two_launchers_at_once_set_up_once(project: Project) -> None:
    command = ["bash", project.root / "launchers/local.sh"]
    environment = os.environ | {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1] != b""
    assert project.builds == 1


def test_no_python_new_enough(project: Project, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ["dirname", "sha256sum", "flock", "head"]:
        found = shutil.which(name)
        assert found is not None
        (commands / name).symlink_to(found)
    result = project.launch("test.sh", PATH=str(commands), PYTHON="")
    assert result.returncode == 1
    assert result.stderr == (
        "error: found no Python 3.11 or newer with its venv package (python3 is absent): "
        "install one (Debian: apt-get install python3-venv) or name it: "
        f"PYTHON=/path/to/python3.11 {project.root}/launchers/test.sh\n"
    )
    assert not (project.root / ".venv").exists()


def test_the_named_python_is_too_old(project: Project, tmp_path: Path) -> None:
    # Answers as an old Python does: with a failure of the check for its version.
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = project.launch("local.sh", PYTHON=str(old))
    assert result.returncode == 1
    assert result.stderr == (
        f"error: PYTHON={old} is not Python 3.11 or newer with its venv package: "
        "name one that is, or unset PYTHON.\n"
    )


def test_scripts_pass_shellcheck() -> None:
    scripts = [ROOT / ".ci/run", *(ROOT / "launchers").glob("*.sh")]
    assert len(scripts) >= 5
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [shellcheck, "--external-sources", "--source-path=SCRIPTDIR", *scripts]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_requirement_is_pinned() -> None:
    """What setup.cfg asks for has exactly one version in constraints.txt."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[=<>~ ]", name)[0]).lower()

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    requirements = (
        setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    ).split("\n")
    wanted = {normal(line) for line in requirements if line and not line.startswith("#")}
    pins = [
        line
        for line in (ROOT / "launchers/constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in pins)
    pinned = [normal(line) for line in pins]
    assert len(pinned) == len(set(pinned))
    assert wanted and wanted <= set(pinned)
