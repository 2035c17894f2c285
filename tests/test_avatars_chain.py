"""The experiment with models of its own, a few steps a stage: trained, measured, packed, and used
as whoever installs the package uses it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seethrough.data.tags import TRAINING_TAGS
from seethrough.decompose.__main__ import main
from seethrough.decompose.options import FILE, depth_options, layer_options
from seethrough.decompose.pack import pack_stage, recorded
from seethrough.engine.model_options import read_options
from seethrough.engine.record import read_record
from seethrough.engine.trained import trained_unets
from seethrough.errors import InputError
from seethrough.inference.decompose import DecomposeOptions
from seethrough.inference.marigold import DepthOptions
from seethrough.models.checkpoints import read_state_dict
from seethrough.recipe import evolve, flatten, identity_values, load
from seethrough.recipes.layerdiff import Decompose
from seethrough.recipes.marigold import OrderLayers
from seethrough.recipes.pack import Pack
from seethrough.tasks.task import StageContext
from tests.chains import Run, resolve, run_whole
from tests.processes import ROOT

EXPERIMENT = ROOT / "experiments" / "avatars.py"
SIDE, STEPS, TRAIN, TEST = 32, 2, 6, 2

OVERRIDES: dict[str, Any] = {
    "characters.train_count": TRAIN,
    "characters.test_count": TEST,
    "characters.size": SIDE,
    "vae.model.vae_channels": "(4, 4, 8, 8)",
    "vae.model.decoder_channels": "(8, 8, 8, 8, 8)",
    "base.channels": "(16, 16, 16)",
    "base.text_widths": "(8, 8)",
    "depth_base.channels": "(16, 16, 16)",
    "depth_base.text_width": 8,
    **{
        f"{stage}.{path}": value
        for stage in (
            "vae",
            "decoders",
            "train_2d",
            "train_3d",
            "depth_vae",
            "depth_2d",
            "depth_3d",
        )
        for path, value in {
            "data.target_size": SIDE,
            "data.global_batch": 2,
            "hardware.micro_batch": 2,
            # In this process: reads in others are not seen.
            "hardware.processes": 1,
            "hardware.threads": 1,
            "schedule.max_steps": STEPS,
            "schedule.warmup_steps": 1,
        }.items()
    },
    **{
        f"{stage}.{path}": value
        for stage in ("decompose", "depth_order")
        for path, value in {"resolution": SIDE, "hardware.threads": 1}.items()
    },
    "decompose.pages_at_once": 2,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_whole(resolve(load(EXPERIMENT), OVERRIDES), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def model(finished: Run) -> Path:
    """What was packed."""
    return finished.artifact("pack", "model")


def test_a_record_gives_back_the_stage(finished: Run) -> None:
    for name, default in (("decompose", Decompose()), ("depth_order", OrderLayers())):
        record = read_record(finished.folder / name)
        assert record is not None
        assert flatten(recorded(default, record)) == flatten(finished.resolved.stages[name])


def test_the_models_lie_in_half_precision_with_how_they_are_used(
    finished: Run, model: Path
) -> None:
    weights = sorted(model.rglob("*.safetensors"))
    assert {path.parent.relative_to(model).as_posix() for path in weights} == {
        "layers/unet", "layers/vae", "layers/trans_vae", "layers/text_encoder",
        "layers/text_encoder_2", "depth/unet", "depth/vae", "depth/text_encoder",
    }  # fmt: skip
    for path in weights:
        assert {value.dtype for value in read_state_dict(path).values()} == {torch.float16}
    layers, depth = sorted(trained_unets(finished.folder), key=lambda one: not one.is_layerdiff)
    options = read_options(model / "layers" / FILE, DecomposeOptions)
    assert options == layer_options(layers)
    assert (options.steps, options.solver.timestep_spacing) == (1, "trailing")
    of_depth = read_options(model / "depth" / FILE, DepthOptions)
    assert of_depth == depth_options(depth)
    assert of_depth == DepthOptions(
        resolution=SIDE,
        steps=1,
        noise="zeros",
        crop_to="character",
        absent_frames=False,
        transparent="gray",
    )


def test_packed_models_are_measured_as_the_trained_ones(finished: Run, model: Path) -> None:
    scores = json.loads((model / "scores.json").read_text())
    for name, stage in (("layers", "decompose"), ("depth", "depth_order")):
        assert scores[name]["trained"] == finished.metrics(stage)
        packed = scores[name]["packed"]
        assert packed and packed.keys() <= scores[name]["trained"].keys()
        assert packed.items() <= finished.metrics("pack").items()
    trained, packed = scores["layers"]["trained"], scores["layers"]["packed"]
    assert packed["chain_mae"] == pytest.approx(trained["chain_mae"], abs=2e-3)
    # The networks did change.
    assert packed["chain_mae"] != trained["chain_mae"]
    card = (model / "README.md").read_text()
    assert "python -m seethrough.run experiments/avatars.py" in card
    assert f"| alpha MAE (lower is better) | {trained['chain_mae']:.3f} |" in card
    assert f"Shares of the {scores['depth']['trained']['pairs']:g} overlapping pairs" in card


def test_they_decompose_a_picture_as_the_run_did(
    finished: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    page = finished.folder / "characters" / "test" / "test_00000.png"
    models = [f"--{name}=file:{model / name}" for name in ("layers", "depth")]
    out = tmp_path / "out"
    assert main([str(page), *models, "--pngs", "--decode_all", f"--out={out}"]) == 0
    result = out / "test_00000"
    assert (result / "test_00000.psd").is_file() and (result / "test_00000.psd.json").is_file()
    for tag in TRAINING_TAGS:
        found, expected = (
            premultiplied(folder / f"{tag}.png")
            for folder in (result / "layers", finished.folder / "decompose/layers/test_00000")
        )
        assert np.abs(found - expected).max() <= 3 / 255


def premultiplied(path: Path) -> np.ndarray:
    """(H, W, 4) premultiplied colour and alpha in [0, 1]."""
    values = np.asarray(Image.open(path)) / 255
    return np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=-1)


def test_more_than_the_limit_is_refused(finished: Run) -> None:
    stage = finished.resolved.stages["pack"]
    assert isinstance(stage, Pack)
    context = StageContext(
        name="pack",
        directory=finished.folder / "too large",
        paths={},
        device=torch.device("cpu"),
        report=lambda text: None,
    )
    message = r"the models take \d\.\d MB \(depth/.*, layers/unet \d\.\d.*limit_mb is 0.01"
    with pytest.raises(InputError, match=message):
        pack_stage(evolve(stage, limit_mb=0.01), context)


def test_packing_reads_all_its_fields(finished: Run) -> None:
    assert identity_values(finished.resolved.stages["pack"])
    assert [path for path in finished.unread if path.startswith("pack.")] == []
