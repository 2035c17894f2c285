"""Variables that a recipe sets: their names, who wins, and that libraries read them."""

import json
import mmap
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from seethrough.engine.environment import environment_of, settings
from seethrough.engine.plan import make_plan
from seethrough.recipe import Experiment, evolve, flatten, load
from seethrough.recipes.environment import Environment
from tests.engine.conftest import CHAIN
from tests.processes import ENVIRONMENT, ROOT, Warm

ALL = Environment(
    hf_home="~/hub",
    hf_endpoint="http://127.0.0.1:9",
    hf_hub_offline=True,
    hf_xet_high_performance=True,
    expandable_segments=True,
    nccl_p2p_level="NVL",
    nccl_p2p_disable=False,
    nccl_ib_disable=True,
    nccl_socket_ifname="eth0",
    nccl_debug="INFO",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's environment that has none of the variables."""
    for name in ("TRANSFORMERS_OFFLINE", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    for setting in settings(ALL):
        monkeypatch.delenv(setting.variable, raising=False)


def test_every_field_is_a_variable() -> None:
    assert [str(setting) for setting in settings(ALL)] == [
        f"HF_HOME={Path.home()}/hub",
        "HF_ENDPOINT=http://127.0.0.1:9",
        "HF_HUB_OFFLINE=1",
        "HF_XET_HIGH_PERFORMANCE=1",
        "PYTORCH_ALLOC_CONF=expandable_segments:True",
        "NCCL_P2P_LEVEL=NVL",
        "NCCL_P2P_DISABLE=0",
        "NCCL_IB_DISABLE=1",
        "NCCL_SOCKET_IFNAME=eth0",
        "NCCL_DEBUG=INFO",
    ]
    assert {"data_roots", *(setting.field for setting in settings(ALL))} == set(flatten(ALL))
    assert settings(Environment()) == ()
    assert environment_of(Experiment()) == Environment()


def test_libraries_read_what_is_set_before_their_import(tmp_path: Path) -> None:
    code = (
        "import json, torch\n"
        "from huggingface_hub import constants as hub\n"
        "print(json.dumps([hub.HF_HUB_CACHE, hub.ENDPOINT, hub.HF_HUB_OFFLINE,\n"
        "    hub.HF_XET_HIGH_PERFORMANCE, torch._C._accelerator_getAllocatorSettings()]))\n"
    )
    environment = evolve(ALL, hf_home=str(tmp_path))
    set_first = (
        "from seethrough.engine.environment import apply\n"
        "from seethrough.recipes.environment import Environment\n"
        f"apply(Environment(**{flatten(environment)!r}))\n"
    )
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("HF_", "PYTORCH_"))}
    done = subprocess.run(
        [sys.executable, "-c", set_first + code], env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        f"{tmp_path}/hub", "http://127.0.0.1:9", True, True, "expandable_segments:True",
    ]  # fmt: skip


def test_nccl_knows_the_names() -> None:
    (library,) = (
        file for file in metadata.files("nvidia-nccl-cu13") or () if file.name == "libnccl.so.2"
    )
    with Path(str(library.locate())).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for setting in settings(ALL):
            if setting.variable.startswith("NCCL_"):
                assert content.find(setting.variable.encode() + b"\0") > 0, setting.variable


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/theirs")
    monkeypatch.setenv("HF_XET_HIGH_PERFORMANCE", "yes")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("NCCL_P2P_LEVEL", "")
    found = {setting.field: str(setting) for setting in settings(evolve(ALL, hf_home="/ours"))}
    assert found["hf_home"] == "HF_HOME=/theirs, set outside; environment.hf_home (/ours) yields"
    assert found["hf_xet_high_performance"] == "HF_XET_HIGH_PERFORMANCE=yes"
    # Names that the libraries also read.
    assert found["hf_hub_offline"] == (
        "TRANSFORMERS_OFFLINE=0, set outside; environment.hf_hub_offline (1) yields"
    )
    assert found["expandable_segments"] == (
        "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128, set outside; "
        "environment.expandable_segments (expandable_segments:True) yields"
    )
    assert found["nccl_debug"] == "NCCL_DEBUG=INFO"
    assert found["nccl_p2p_level"] == "NCCL_P2P_LEVEL=NVL"


def test_plan_and_run_tell(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"nccl_p2p_level": "NVL", "nccl_debug": "WARN"}
    told = (
        "environment: NCCL_P2P_LEVEL=SYS, set outside; environment.nccl_p2p_level (NVL) yields\n"
        "environment: NCCL_DEBUG=WARN\n"
    )
    monkeypatch.setenv("NCCL_P2P_LEVEL", "SYS")
    given = [(f"environment.{name}", value) for name, value in flags.items()]
    resolved = load(ROOT / CHAIN).override(given).resolve()
    text = make_plan(resolved, tmp_path).text()
    assert text.startswith(
        f"chain in {tmp_path}/chain\ndata roots: workspace/datasets\n{told}\nrows "
    )
    arguments = [f"--{path}={value}" for path, value in given]
    done = warm.run(
        CHAIN, f"--runs={tmp_path}", "--only=rows", *arguments, env={"NCCL_P2P_LEVEL": "SYS"}
    )
    assert done.code == 0, done.err
    assert done.out.startswith(told + "rows: ")


def test_too_late_for_a_library_that_is_imported(warm: Warm, tmp_path: Path) -> None:
    """The process that forks these has imported everything."""
    done = warm.run(CHAIN, f"--runs={tmp_path}", "--environment.hf_home=/ours")
    assert done.code == 2
    assert done.err == (
        "environment.hf_home: huggingface_hub is imported already and has read its variables: set "
        "HF_HOME=/ours before Python starts\n"
    )
