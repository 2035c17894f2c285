"""A run's models: decomposing with them as they are, and exported to the published layout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from huggingface_hub import ModelCard
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from seethrough.decompose.__main__ import main
from seethrough.decompose.card import write_card
from seethrough.decompose.options import layer_options
from seethrough.engine.record import Made, write_started
from seethrough.engine.runner import run
from seethrough.engine.trained import trained_unets
from seethrough.hub.__main__ import main as hub_main
from seethrough.inference.decompose import DecomposeOptions
from seethrough.inference.sampling import Solver
from seethrough.models import TransparentVAE, UNetFrameConditionModel
from seethrough.models.checkpoints import read_state_dict
from seethrough.recipe import Experiment, Local, Output, draft, evolve, identity_values, recipe
from seethrough.recipes.layerdiff import Decompose, LayerDiff3DTrain, Sampler
from seethrough.recipes.marigold import Marigold3DTrain
from seethrough.recipes.training import AdamW
from seethrough.tasks.decompose import load_layerdiff
from tests.decompose.models import write_packed_layer_model
from tests.engine.hub import WRITER, Hub, running_hub, users
from tests.hub.conftest import contents
from tests.tasks.small import SIDE, Small, stage_3d, stage_depth_3d

LAYERS = ["--model=layers", "--precision=fp32", "--license=openrail++"]


@recipe
class Chain(Experiment):
    """Two stages that train layers, the second from the first one's UNet, and one of depth."""

    train_3d: LayerDiff3DTrain = LayerDiff3DTrain()
    """Training."""

    finish: LayerDiff3DTrain = LayerDiff3DTrain()
    """More of it."""

    depth: Marigold3DTrain = Marigold3DTrain()
    """Training of depth."""


def one_step(stage: Any) -> Any:
    return evolve(
        stage,
        data=evolve(stage.data, global_batch=1),
        optim=AdamW(lr=1e-3, precision="fp32", ema_decay=None),
        schedule=evolve(stage.schedule, max_steps=1, warmup_steps=0, pictures_every=None),
        hardware=evolve(stage.hardware, device="cpu", processes=1, micro_batch=1, loader_workers=0),
        tracking=evolve(stage.tracking, tracker=None),
    )


@pytest.fixture(scope="module")
def trained(
    small: Small, layer_model: Path, depth_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run."""
    torch.set_num_threads(1)
    train = one_step(stage_3d(small, layer_model / "unet"))
    finish = evolve(train, model=evolve(train.model, unet=Output("train_3d", "unet")))
    depth = one_step(stage_depth_3d(small, depth_model / "unet"))
    depth = evolve(depth, model=evolve(depth.model, base=Local(str(depth_model))))
    runs = tmp_path_factory.mktemp("runs")
    chain = Chain(train_3d=train, finish=finish, depth=depth)
    run(draft(chain, "chain").resolve(), runs)
    return runs / "chain"


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models of the run, in the folders `layers` and `depth`."""
    folder = tmp_path_factory.mktemp("exported")
    assert hub_main(["export", str(trained), str(folder / "layers"), *LAYERS]) == 0
    depth = ["--model=depth", "--precision=fp32"]
    assert hub_main(["export", str(trained), str(folder / "depth"), *depth]) == 0
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("one/one*")}


def test_a_run_and_its_export_decompose_alike(
    trained: Path, exported: Path, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    image = str(pictures / "one.png")
    folders = [f"--{model}=file:{exported / model}" for model in ("layers", "depth")]
    for name, models in (("run", [f"--from={trained}"]), ("export", folders)):
        assert main([image, *models, "--steps=2", f"--out={tmp_path / name}"]) == 0
        said = capsys.readouterr().out
        # At the size of the training, from the UNet that no other stage went on from.
        assert f"{SIDE} px, 2 steps" in said and f"{SIDE} px, 4 steps" in said
    assert files(tmp_path / "run") == files(tmp_path / "export")
    assert set(files(tmp_path / "run")) == {"one.psd", "one_depth.psd", "one.psd.json"}
    record = json.loads((tmp_path / "run" / "one" / "record.json").read_text())
    # Training draws a noise for each frame, and so does this.
    assert record["inputs"]["layer_options"]["shared_init_noise"] is False
    unet = json.loads((trained / "finish" / "record.json").read_text())["artifacts"]["unet"]
    assert unet["sha256"] in record["inputs"]["layers"]


def test_an_export_is_what_diffusers_own_loaders_read(exported: Path) -> None:
    exported = exported / "layers"
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


def test_an_export_of_depth_is_too(exported: Path) -> None:
    exported = exported / "depth"
    unet: Any = UNetFrameConditionModel.from_pretrained(exported, subfolder="unet")
    pipeline: Any = MarigoldDepthPipeline.from_pretrained(exported, unet=unet)
    assert pipeline.config["default_processing_resolution"] == SIDE
    assert pipeline.scheduler.config["timestep_spacing"] == "trailing"


def test_weights_are_bf16_unless_told_otherwise(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert hub_main(["export", str(trained), str(folder), "--model=layers"]) == 0
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
        (
            ["export", str(trained), str(exported / "depth"), "--model=depth"],
            f"{exported / 'depth'}: there is something already",
        ),
        (["export", str(trained), "x"], f"{trained}: it trained"),
        (
            ["export", str(trained), str(exported / "depth/decompose.json/x"), "--model=depth"],
            "decompose.json/x: can't be written (Not a directory)",
        ),
        (["export", str(trained), "x", "--precison=fp32"], "did you mean precision?"),
        (["upload", str(tmp_path), "org/new"], "no finished stage of a run lies there"),
        (["upload", str(trained), "org/new"], f"{trained}: it trained"),
        (["upload", str(trained)], "write python -m seethrough.hub upload FOLDER|RUN REPO"),
    ):
        assert hub_main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing_under_its_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_copy = tmp_path / "chain"
    shutil.copytree(trained, run_copy)
    (run_copy / "finish" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    folder = tmp_path / "model"
    assert hub_main(["export", str(run_copy), str(folder), "--model=layers"]) == 2
    assert "not a readable safetensors file" in capsys.readouterr().err
    assert not folder.exists()


def test_weights_of_4_bits_are_no_start_for_an_export(
    trained: Path, layer_model: Path, small: Small, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_copy, export = tmp_path / "chain", ["export", str(tmp_path / "chain"), str(tmp_path / "x")]
    shutil.copytree(trained, run_copy)
    record = run_copy / "finish" / "record.json"
    base = tmp_path / "base"
    shutil.copytree(small.base, base)
    record.write_text(record.read_text().replace(str(small.base), str(base)))
    config = base / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {}}))
    assert hub_main([*export, "--model=layers"]) == 2
    assert f"{base / 'text_encoder'}: its weights are of 4 bits" in capsys.readouterr().err
    packed = write_packed_layer_model(tmp_path / "packed", small) / "unet"
    shutil.rmtree(run_copy / "finish" / "unet")
    shutil.copytree(packed, run_copy / "finish" / "unet")
    assert hub_main([*export, "--model=layers"]) == 2
    assert f"{run_copy / 'finish' / 'unet'}: its weights are of 4 bits" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_card_tells_what_the_records_do(trained: Path, exported: Path) -> None:
    card = ModelCard.load(exported / "layers" / "README.md")
    data = card.data.to_dict()
    assert (data["library_name"], data["license"]) == ("diffusers", "openrail++")
    # Nothing came from the hub; and no path of this machine is told.
    assert "base_model" not in data and str(trained.parent) not in card.content
    text = json.loads((trained / "finish" / "record.json").read_text())
    for fact in (
        "# chain",
        "| experiment, stage | chain, finish |",
        f"| sha256 of the trained UNet | {text['artifacts']['unet']['sha256']} |",
        "| type of the weights | float32 |",
        f"| size in training, px | {SIDE} |",
        f"| finish | {text['fingerprint']} | ",
        f"model.base: {text['inputs']['model.base']['identity']}",
        "License: openrail++.",
    ):
        assert fact in card.content, fact
    assert "A Marigold 3D model" in (exported / "depth" / "README.md").read_text()


def test_base_models_of_the_hub_are_named_with_their_commits(trained: Path, tmp_path: Path) -> None:
    run_copy = tmp_path / "chain"
    shutil.copytree(trained, run_copy)
    record = run_copy / "train_3d" / "record.json"
    content = json.loads(record.read_text())
    commit = "0" * 40
    content["inputs"]["model.base"] = {
        "source": "hub:org/base@v2", "identity": "org/base@v2", "content": commit
    }  # fmt: skip
    record.write_text(json.dumps(content))
    layers = next(one for one in trained_unets(run_copy) if one.is_layerdiff)
    write_card(tmp_path, layers, torch.bfloat16, license=None)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict()["base_model"] == ["org/base"]
    assert (
        f"model.base: org/base@{commit}" in card.content and "License: not stated" in card.content
    )


def test_a_run_goes_to_the_hub_and_comes_back_as_its_export(
    trained: Path, exported: Path, tmp_path: Path
) -> None:
    with running_hub(Hub()) as hub:
        environment = users(hub.address, tmp_path, HF_TOKEN=WRITER, HF_HUB_DISABLE_XET="1")
        upload = ["upload", str(trained), "org/new", *LAYERS, "--message=Layers"]
        for line in (upload, ["download", "org/new", str(tmp_path / "model")]):
            done = subprocess.run(
                [sys.executable, "-m", "seethrough.hub", *line],
                env=environment, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "model") == contents(exported / "layers")
    assert not [path for path in trained.iterdir() if path.name.startswith(".")]


def test_options_of_a_model_that_can_t_be_read_are_named(
    exported: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported / "layers", folder)
    options = json.loads((folder / "decompose.json").read_text())
    (folder / "decompose.json").write_text(json.dumps({**options, "stepps": 3}))
    assert main([str(pictures), f"--layers=file:{folder}", f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert f"{folder}/decompose.json: no options of a model" in said and "stepps" in said


def test_the_options_of_a_run_s_own_decomposition_count(trained: Path, tmp_path: Path) -> None:
    run_copy = tmp_path / "chain"
    shutil.copytree(trained, run_copy)
    stage = Decompose(
        pages=Local("pages"),
        resolution=96,
        sampler=Sampler(steps=7, timestep_spacing="trailing", shared_noise=True),
        crop_to="character",
        head_pass="body",
        averaged_decode=True,
    )
    (run_copy / "decompose").mkdir()
    write_started(run_copy / "decompose", Made("0", identity_values(stage), {}))
    layers = next(one for one in trained_unets(run_copy) if one.is_layerdiff)
    assert layer_options(layers) == DecomposeOptions(
        resolution=96,
        steps=7,
        solver=Solver(timestep_spacing="trailing"),
        shared_init_noise=True,
        crop_to="character",
        head_pass="body",
        decode_passes=8,
    )
