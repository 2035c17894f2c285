"""The plan: states, missing inputs, memory; and what planning may not import."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from seethrough.engine.memory import count_parameters
from seethrough.engine.plan import make_plan
from seethrough.recipe import Resolved, load
from tests.engine.conftest import CHAIN, ROOT, Warm

LIGHT = ("plan", "memory", "record", "drift", "sources", "files", "ranks", "launch", "runner")


def chain(**flags: str) -> Resolved:
    given = [(path.replace("__", "."), text) for path, text in flags.items()]
    return load(ROOT / CHAIN).override(given).resolve()


def states(resolved: Resolved, runs: Path) -> list[str]:
    return [stage.state for stage in make_plan(resolved, runs).stages]


def test_planning_imports_no_torch() -> None:
    modules = [f"seethrough.engine.{name}" for name in LIGHT]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "heavy = {'torch', 'accelerate', 'diffusers', 'transformers', 'huggingface_hub'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_states_and_text(warm: Warm, tmp_path: Path) -> None:
    assert states(chain(), tmp_path) == ["to do"] * 3
    text = make_plan(chain(rows__scale="file:nowhere"), tmp_path).text()
    assert text.startswith(f"chain in {tmp_path}/chain\n")
    assert "\nrows  [to do]  Writes rows of numbers.\n  scale = file:nowhere   MISSING\n" in text
    assert (
        "  6 steps of 8 samples = 2 processes x micro-batch 2 x accumulation 2; cpu, fp32, "
        "AdamW lr 0.01\n" in make_plan(chain(train__hardware__processes="2"), tmp_path).text()
    )

    assert warm.run(CHAIN, f"--runs={tmp_path}").code == 0
    assert states(chain(), tmp_path) == ["done"] * 3
    assert states(chain(train__width="8"), tmp_path) == ["done", "drifted", "done"]
    assert (
        "  drift: width: made with 16, now 8" in make_plan(chain(train__width="8"), tmp_path).text()
    )

    (tmp_path / "chain/train/record.json").unlink()
    assert states(chain(), tmp_path) == ["done", "resumes", "done"]
    assert "  resumes from step-00000006" in make_plan(chain(), tmp_path).text()
    assert states(chain(train__width="8"), tmp_path)[1] == "drifted"
    plan = make_plan(chain(), tmp_path, redo=["train"])
    assert [stage.state for stage in plan.stages] == ["done", "to do", "done"]


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    save_file(
        {"a": torch.zeros(3, 5), "n": torch.zeros(7, dtype=torch.int64)}, tmp_path / "1.safetensors"
    )
    save_file({"b": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "2.safetensors")
    assert count_parameters(tmp_path) == 17


def test_memory_of_the_published_recipe(tmp_path: Path) -> None:
    resolved = load(ROOT / "experiments/layerdiff3d_v3.py").resolve()
    text = make_plan(resolved, tmp_path).text(memory=True)
    count = 2_567_475_204
    assert f"memory: {count:,} parameters" in text
    assert f"  weights, float32: 4 B each = {4 * count / 2**30:.1f} GiB" in text
    assert f"AdamW state: 8 B each = {8 * count / 2**30:.1f} GiB" in text
    assert "a device leaves " in text
    small = resolved.override([("train_2d.hardware.device_memory_gib", "16")]).resolve()
    assert "a device does not fit in 16 GiB" in make_plan(small, tmp_path).text(memory=True)
