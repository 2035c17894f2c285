"""A project of a few lines, set up by the real launchers without a network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]

# A build backend inside the project needs nothing from an index. Each build is logged in `builds`.
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import pathlib, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with open("builds", "a") as log:
        log.write("built\\n")
    if pathlib.Path("broken").exists():
        raise SystemExit("this project cannot be built")
    name, info = "small-1-py3-none-any.whl", "small-1.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("small.pth", str(pathlib.Path.cwd()))
        wheel.writestr(f"{info}/METADATA",
                       "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nProvides-Extra: test\\n")
        wheel.writestr(f"{info}/WHEEL",
                       "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
# Its command line prints how it was called.
RUN = """\
import os, sys
print("prefix", sys.prefix)
print("cwd", os.getcwd())
print("arguments", *sys.argv[1:])
print("extensions", os.environ["TORCH_EXTENSIONS_DIR"])
sys.exit(3 if "--exit=3" in sys.argv else 0)
"""


@attrs.frozen
class Project:
    """A project's folder with the launchers in it."""

    root: Path

    def launch(
        self, name: str, *arguments: str, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Call a launcher; `variables` are set in its environment."""
        environment = os.environ | {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"} | variables
        bash = shutil.which("bash")
        assert bash is not None
        return subprocess.run(
            [bash, self.root / "launchers" / name, *arguments],
            cwd=cwd or self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def builds(self) -> int:
        """How often pip has installed the project."""
        log = self.root / "builds"
        return len(log.read_text().splitlines()) if log.exists() else 0


def make_project(root: Path) -> Project:
    """Write the small project with the real launchers."""
    shutil.copytree(ROOT / "launchers", root / "launchers")
    (root / "launchers/constraints.txt").write_text("")
    (root / "setup.cfg").write_text("")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    (root / "seethrough").mkdir()
    (root / "seethrough/run.py").write_text(RUN)
    return Project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A new project, in a folder whose name has a space."""
    return make_project(tmp_path / "a project")


@pytest.fixture(scope="module")
def ready_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose environment is made: for tests that only start something in it."""
    project = make_project(tmp_path_factory.mktemp("ready") / "a project")
    result = project.launch("local.sh")
    assert result.returncode == 0, result.stderr
    return project
