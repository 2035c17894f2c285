"""A run's models: decomposing with them as they are, and exported to the published layout."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from seethrough import hub
from seethrough.decompose.__main__ import main
from seethrough.engine.runner import run
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import read_state_dict
from seethrough.recipe import Experiment, Output, draft, evolve, recipe
from seethrough.recipes.layerdiff import LayerDiff3DTrain
from seethrough.recipes.training import AdamW
from seethrough.tasks.decompose import load_layerdiff
from tests.tasks.small import SIDE, Small, stage_3d


@recipe
class Chain(Experiment):
    """Two stages of training, the second from the first one's UNet."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """Training."""

    finish: LayerDiff3DTrain = LayerDiff3DTrain()
    """More of it."""


@pytest.fixture(scope="module")
def trained(small: Small, layer_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    torch.set_num_threads(1)
    train = stage_3d(small, layer_model / "unet")
    train = evolve(
        train,
        data=evolve(train.data, global_batch=1),
        optim=AdamW(lr=1e-3, precision="fp32", ema_decay=None),
        schedule=evolve(train.schedule, max_steps=1, warmup_steps=0, pictures_every=None),
        hardware=evolve(train.hardware, device="cpu", processes=1, micro_batch=1, loader_workers=0),
        tracking=evolve(train.tracking, tracker=None),
    )
    finish = evolve(train, model=evolve(train.model, unet=Output("train_3d", "unet")))
    runs = tmp_path_factory.mktemp("runs")
    run(draft(Chain(train_3d=train, finish=finish), "chain").resolve(), runs)
    return runs / "chain"


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    assert hub.main(["export", str(trained), str(folder), "--precision=fp32"]) == 0
    return folder


def psd(out: Path) -> bytes:
    return (out / "one" / "one.psd").read_bytes()


def test_a_run_and_its_export_decompose_alike(
    trained: Path, exported: Path, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    image = str(pictures / "one.png")
    for name, model in (("run", f"--from={trained}"), ("export", f"--layers=file:{exported}")):
        assert main([image, model, "--steps=2", f"--out={tmp_path / name}"]) == 0
        # At the size of the training, from the UNet that no other stage went on from.
        assert f"{SIDE} px, 2 steps" in capsys.readouterr().out
    assert psd(tmp_path / "run") == psd(tmp_path / "export")
    record = json.loads((tmp_path / "run" / "one" / "record.json").read_text())
    unet = json.loads((trained / "finish" / "record.json").read_text())["artifacts"]["unet"]
    assert unet["sha256"] in record["inputs"]["layers"]


def test_an_export_is_what_diffusers_own_loaders_read(exported: Path) -> None:
    unet: Any = UNetFrameConditionModel.from_pretrained(exported, subfolder="unet")
    assert (unet.config["tag_version"], unet.config["group_embedding"]) == ("v3", True)
    TransparentVAE.from_pretrained(exported, subfolder="trans_vae")
    assert isinstance(AutoencoderKL.from_pretrained(exported, subfolder="vae"), AutoencoderKL)
    for suffix, encoder in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
        encoder.from_pretrained(exported / f"text_encoder{suffix}")
        tokenizer: Any = CLIPTokenizer.from_pretrained(exported / f"tokenizer{suffix}")
        assert len(tokenizer("front hair").input_ids) == 4
    # As the published repositories are loaded: the UNet, of a class that diffusers lacks, is given.
    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(exported, unet=unet)
    assert pipeline.unet is unet
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    assert pipeline.scheduler.config["algorithm_type"] == "sde-dpmsolver++"


def test_weights_are_bf16_unless_told_otherwise(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert hub.main(["export", str(trained), str(folder)]) == 0
    for part in ("unet", "vae", "trans_vae", "text_encoder", "text_encoder_2"):
        types = {value.dtype for value in read_state_dict(folder / part).values()}
        assert types == {torch.bfloat16}, part
    models = load_layerdiff(folder, folder, folder, torch.device("cpu"))
    assert models.flow.groups[1][0] == "headwear"


def test_what_can_t_be_exported_is_named(
    trained: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["export", str(trained)], "write python -m seethrough.hub export RUN FOLDER"),
        (["import", str(trained), "x"], "given import"),
        (["export", str(tmp_path), "x"], "no finished stage of a run lies there"),
        (["export", str(tmp_path / "no"), "x"], "no such folder"),
        (["export", str(trained), str(exported)], f"{exported}: there is something already"),
        (["export", str(trained), "x", "--model=depth"], "no finished stage trained a model of"),
        (["export", str(trained), "x", "--precison=fp32"], "did you mean precision?"),
    ):
        assert hub.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing_under_its_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_copy = tmp_path / "chain"
    shutil.copytree(trained, run_copy)
    (run_copy / "finish" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    folder = tmp_path / "model"
    assert hub.main(["export", str(run_copy), str(folder)]) == 2
    assert "not a readable safetensors file" in capsys.readouterr().err
    assert not folder.exists()


def test_options_of_a_model_that_can_t_be_read_are_named(
    exported: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    options = json.loads((folder / "decompose.json").read_text())
    (folder / "decompose.json").write_text(json.dumps({**options, "stepps": 3}))
    assert main([str(pictures), f"--layers=file:{folder}", f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert f"{folder}/decompose.json: no options of DecomposeOptions" in said and "stepps" in said
