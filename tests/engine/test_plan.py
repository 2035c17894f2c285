"""The plan: states, missing inputs, memory; and what planning may not import."""

import json
import subprocess
import sys
from pathlib import Path

import attrs
import torch
from safetensors.torch import save_file

from seethrough.engine.memory import count_parameters, memory_lines
from seethrough.engine.plan import make_plan
from seethrough.recipe import Resolved, evolve, load
from seethrough.recipes.layerdiff import LayerDiff2DTrain
from seethrough.recipes.training import AdamW, AdamW8bit
from tests.engine.conftest import CHAIN
from tests.processes import ROOT, Warm

LIGHT = (
    "plan", "memory", "record", "drift", "sources", "files", "ranks", "launch", "runner",
    "environment", "hub",
)  # fmt: skip


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


def test_where_local_sources_lie(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        root.mkdir()
        (root / "number").write_text("2.0")
    resolved = chain(rows__scale="file:number", environment__data_roots=f"{first},{second}")
    text = make_plan(resolved, tmp_path).text()
    assert f"\ndata roots: {first}, {second}\n" in text
    assert f"\n  scale = file:number   at {first}/number\n" in text
    assert f"\n  scale: file:number is taken from {first}/number, not from {second}/" in text
    (first / "number").unlink()
    (second / "number").unlink()
    text = make_plan(resolved, tmp_path).text()
    assert "\n  scale = file:number   MISSING\n" in text and "is taken from" not in text


def test_the_commit_that_a_stage_was_made_from(warm: Warm, tmp_path: Path) -> None:
    assert warm.run(CHAIN, f"--runs={tmp_path}", "--only=rows").code == 0
    path = tmp_path / "chain/rows/record.json"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for revision, note in {
        "": "   made from commit 0123456789ab; the recipe follows main",
        "@v2": "   made from commit 0123456789ab; the recipe follows v2",
        f"@{commit}": "   made from commit 0123456789ab",
    }.items():
        resolved = chain(rows__scale=f"hub:org/model{revision}")
        # As `run` writes it; of a branch that moves on, the fingerprint doesn't tell.
        made = make_plan(resolved, tmp_path).stages[0].made
        made.inputs["scale"] = attrs.evolve(made.inputs["scale"], content=commit)
        record = {**json.loads(path.read_text()), **attrs.asdict(made)}
        path.write_text(json.dumps(record))
        plan = make_plan(resolved, tmp_path)
        assert plan.stages[0].state == "done"
        assert f"\n  scale = hub:org/model{revision}{note}\n" in plan.text()


def test_distribution(tmp_path: Path) -> None:
    def shown(**flags: str) -> str:
        given = {f"train__deepspeed__{name}": text for name, text in flags.items()}
        text = make_plan(chain(**given), tmp_path).text()
        (line,) = (line for line in text.splitlines() if line.startswith("  distribution: "))
        return line.removeprefix("  distribution: ")

    assert shown() == "plain data parallel"
    assert shown(zero_stage="1") == "ZeRO-1, which spreads optimizer state"
    assert shown(zero_stage="2", offload_optimizer="cpu") == (
        "ZeRO-2, which spreads optimizer state, gradients; optimizer state offloaded to cpu"
    )
    assert shown(
        zero_stage="3", offload_optimizer="cpu", offload_parameters="nvme", nvme_path="/scratch"
    ) == (
        "ZeRO-3, which spreads optimizer state, gradients, weights; optimizer state offloaded to "
        "cpu; weights offloaded to nvme"
    )


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
    # Whole bfloat16 weights and gradients, and an eighth of 12 bytes.
    assert (
        f"a device does not fit in 16 GiB: with deepspeed.zero_stage=1 it would be "
        f"{5.5 * count / 2**30:.1f} GiB"
    ) in make_plan(small, tmp_path).text(memory=True)


def test_no_way_to_spread_what_cannot_be_cut() -> None:
    default = LayerDiff2DTrain()
    small = evolve(default.hardware, device_memory_gib=16)
    for optim in (AdamW8bit(), AdamW(precision="fp16")):
        *_, last = memory_lines(evolve(default, optim=optim, hardware=small), {})
        assert "zero_stage" not in last and "does not fit in 16 GiB: use more" in last


def test_memory_of_offloaded_state(tmp_path: Path) -> None:
    flags = {
        "deepspeed.zero_stage": "3",
        "deepspeed.offload_optimizer": "cpu",
        "deepspeed.offload_parameters": "cpu",
        "optim.ema_decay": "0.999",
    }
    named = [(f"train_2d.{path}", text) for path, text in flags.items()]
    resolved = load(ROOT / "experiments/layerdiff3d_v3.py").override(named).resolve()
    text = make_plan(resolved, tmp_path).text(memory=True)
    count = 2_567_475_204
    # Of 8 processes each holds an eighth: 2 B of weights; 4 + 8 + 4 B and the gradient in float32.
    assert f"{(2 + 4 + 8 + 4 + 4) * count / 2**30:.1f} GiB of host memory for 8 processes" in text
    # On the device the gradients' share, and two buckets of 5e8 elements.
    buckets = 2 * 5e8 * 2
    assert f"  {buckets / 2**30:.1f} GiB a device for buckets of gradients" in text
    assert f"  {(2 / 8 * count + buckets) / 2**30:.1f} GiB a device leaves" in text
    # The whole network in float32.
    more = f"  {4 * count / 2**30:.1f} GiB more on the main device while it validates or makes"
    assert more in text
    never = resolved.override([("train_2d.schedule.pictures_every", "none")]).resolve()
    (_, train_2d, *_) = make_plan(never, tmp_path).text(memory=True).split("\n\n")
    assert more not in train_2d


SD35 = ROOT / "experiments/transparency_sd35.py"


def memory_of(tmp_path: Path, experiment: Path, **values: str) -> str:
    named = [(f"train.{path}", text) for path, text in values.items()]
    resolved = load(experiment).override(named).resolve()
    return make_plan(resolved, tmp_path).text(memory=True)


def test_memory_of_the_machines_that_transparency_trains_on(tmp_path: Path) -> None:
    """As published on four L4, and without anything spread on one GPU of 80 GB."""
    gib = 2_243_171_520 / 2**30
    published = memory_of(tmp_path, SD35)
    assert "ZeRO-3" in published and "optimizer state offloaded to cpu" in published
    # Float32 weights, two moments and the gradient; at the start each process has all weights too.
    assert f"  {16 * gib:.1f} GiB of host memory for 4 processes" in published
    assert f"  {16 * gib + 4 * 4 * gib:.1f} of 93 GiB of host memory at the start" in published
    assert "of 22 GiB for frozen networks and activations: it fits" in published
    one = memory_of(tmp_path, SD35, hardware="OneGpu80", deepspeed="PlainDataParallel")
    assert "= 1 processes x micro-batch 4 x accumulation 8" in one
    assert f"  {18 * gib:.1f} GiB a device leaves {80 - 18 * gib:.1f} of 80 GiB" in one
    assert "of host memory" not in one
    spread = memory_of(tmp_path, SD35, hardware="FourA40", deepspeed="Zero2")
    assert "of 44 GiB for frozen networks and activations: it fits" in spread
    small = memory_of(tmp_path, SD35, **{"hardware.host_memory_gib": "64"})
    assert "network in float32: it does not fit" in small


def test_memory_of_updates_alone(tmp_path: Path) -> None:
    count, trained = 2_243_171_520, 47_775_744
    text = memory_of(tmp_path, ROOT / "experiments/transparency_sd35_lora.py")
    frozen = 4 * (count - trained) / 2**30
    assert f"  {trained:,} of them are trained; the others take {frozen:.1f} GiB a device" in text
    assert f"  {frozen + 22 * trained / 2**30:.1f} GiB a device leaves" in text
