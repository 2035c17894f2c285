"""LayerDiff 3D with its weights cut over two processes by ZeRO-3.

Users of DeepSpeed had to stay at 0.15.4 (its issue 6793): while ZeRO-3 was on, models that
transformers loaded came out cut, so that embeddings were no matrices, and what starts at zero did
not. Here a stage under ZeRO-3 loads text encoders, starts from blocks and group embeddings whose
last projections are zero, and must train as one process does although its two processes see
different groups.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from seethrough.recipe import Local
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.inflate import inflate_stage
from tests.engine.conftest import ENVIRONMENT, ROOT, command
from tests.tasks.small import SIDE, Small, context


@pytest.fixture
def unet(unet_2d: Path, tmp_path: Path) -> Path:
    """A 3D UNet as the conversion makes it."""
    stage = Inflate(unet=Local(str(unet_2d)))
    return inflate_stage(stage, context(stage, tmp_path)).artifacts["unet"]


def train(small: Small, unet: Path, runs: Path, **values: Any) -> dict[str, Any]:
    """The weights that four steps of the published recipe lead to."""
    base, vae = small.source("base"), small.source("transparent_vae")
    values = {
        "model.unet": f"file:{unet}",
        "model.base": base,
        "model.transparent_vae": vae,
        "data.sources": f"(({small.source('samples')},1),)",
        "data.target_size": SIDE,
        "data.layer_alpha": "straight",
        "data.global_batch": 4,
        "optim.lr": 1e-3,
        "optim.precision": "fp32",
        "schedule.max_steps": 4,
        "schedule.warmup_steps": 0,
        "schedule.pictures_every": 4,
        "hardware.device": "cpu",
        "hardware.threads": 1,
        "hardware.processes": 1,
        "hardware.loader_workers": 0,
        "tracking.tracker": "none",
        **values,
    }
    flags = [f"--train_3d.{path}={value}" for path, value in values.items()]
    experiment = str(ROOT / "experiments/layerdiff3d_v3.py")
    done = subprocess.run(
        command(experiment, "--only=train_3d", f"--runs={runs}", *flags),
        env=ENVIRONMENT, cwd=runs.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stage = runs / "layerdiff3d_v3/train_3d"
    assert len(list((stage / "pictures").glob("step-00000004-*.png"))) == 2
    return load_file(stage / "unet/diffusion_pytorch_model.safetensors")


def test_cut_weights_train_as_whole_ones(small: Small, unet: Path, tmp_path: Path) -> None:
    whole = train(small, unet, tmp_path / "one")
    cut = train(
        small,
        unet,
        tmp_path / "two",
        **{
            "hardware.processes": 2,
            "deepspeed.zero_stage": 3,
            "deepspeed.persistence_threshold": 0,
        },
    )
    start = load_file(unet / "diffusion_pytorch_model.safetensors")
    assert whole.keys() == cut.keys() == start.keys()
    zero = [name for name, value in start.items() if not value.any()]
    assert any("group_embeds2.1.linear" in name for name in zero)
    apart = {name: float((value - cut[name]).norm()) for name, value in whole.items()}
    size = sum(float(value.norm()) ** 2 for value in whole.values()) ** 0.5
    assert sum(value**2 for value in apart.values()) ** 0.5 < 1e-5 * size
    # Where a gradient is rounding alone, AdamW makes a step of it all the same.
    # A tensor that a process forgot would be off by a whole step.
    for name, value in whole.items():
        assert apart[name] < 1e-4 * float(value.norm()) + 1e-5, name
    assert all(cut[name].any() for name in zero if "linear.weight" in name)
