"""LayerDiff 3D with its weights cut over two processes by ZeRO-3.

Users of DeepSpeed had to stay at 0.15.4 (its issue 6793): while ZeRO-3 was on, models that
transformers loaded came out cut, so that embeddings were no matrices, and what starts at zero did
not. Here a stage under ZeRO-3 loads text encoders, starts from blocks and group embeddings whose
last projections are zero, and must train as one process does although its two processes see
different groups.
"""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from seethrough.recipe import Local
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.inflate import inflate_stage
from tests.chains import relative_distance, words
from tests.processes import ROOT, Warm
from tests.tasks.small import SIDE, Small, context


@pytest.fixture
def unet(unet_2d: Path, tmp_path: Path) -> Path:
    """A 3D UNet as the conversion makes it."""
    stage = Inflate(unet=Local(str(unet_2d)))
    return inflate_stage(stage, context(stage, tmp_path)).artifacts["unet"]


def train(
    warm: Warm, small: Small, unet: Path, runs: Path, processes: int = 1, **distribution: Any
) -> dict[str, Any]:
    """The weights that four steps of the published recipe lead to."""
    values = {
        "model.unet": f"file:{unet}",
        "model.base": small.source("base"),
        "model.transparent_vae": small.source("transparent_vae"),
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
        "hardware.processes": processes,
        "hardware.loader_workers": 0,
        "tracking.tracker": "none",
        **{f"deepspeed.{name}": value for name, value in distribution.items()},
    }
    flags = words({f"train_3d.{path}": value for path, value in values.items()})
    experiment = str(ROOT / "experiments/layerdiff3d_v3.py")
    done = warm.run(experiment, "--only=train_3d", f"--runs={runs}", *flags, world=processes)
    assert done.codes == [0] * processes, done.err
    stage = runs / "layerdiff3d_v3/train_3d"
    assert len(list((stage / "pictures").glob("step-00000004-*.png"))) == 2
    return load_file(stage / "unet/diffusion_pytorch_model.safetensors")


def test_cut_weights_train_as_whole_ones(
    warm: Warm, small: Small, unet: Path, tmp_path: Path
) -> None:
    whole = train(warm, small, unet, tmp_path / "one")
    cut = train(
        warm,
        small,
        unet,
        tmp_path / "two",
        processes=2,
        zero_stage=3,
        persistence_threshold=0,
    )
    start = load_file(unet / "diffusion_pytorch_model.safetensors")
    assert whole.keys() == cut.keys() == start.keys()
    zero = [name for name, value in start.items() if not value.any()]
    assert any("group_embeds2.1.linear" in name for name in zero)
    assert relative_distance(whole, cut) < 1e-5
    # Where a gradient is rounding alone, AdamW makes a step of it all the same.
    # A tensor that a process forgot would be off by a whole step.
    for name, value in whole.items():
        apart = float((value - cut[name]).norm())
        assert apart < 1e-4 * float(value.norm()) + 1e-5, name
    assert all(cut[name].any() for name in zero if "linear.weight" in name)
