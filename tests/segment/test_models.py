"""Where a model comes from: folders in diffusers' layout, runs of ours, and what does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from seethrough.engine.runner import run
from seethrough.models.checkpoints import read_state_dict
from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.published_prompt import FOLDER, read_published_prompt
from seethrough.recipe import Experiment, Output, draft, evolve, recipe
from seethrough.recipes.training import AdamW
from seethrough.recipes.transparency import TransparencyTrain
from seethrough.segment import export
from seethrough.segment.__main__ import main
from tests.tasks.small_sd3 import SIDE, SmallSD3, small_stage, write_small_sd3


def segmented(photo: Path, out: Path, *flags: str) -> bytes:
    assert main([str(photo), f"--out={out}", *flags]) == 0
    return (out / f"{photo.stem}_pred.png").read_bytes()


def test_parts_may_lie_apart(model: Path, photos: Path, tmp_path: Path) -> None:
    whole = segmented(photos / "a.jpg", tmp_path / "whole", f"--model=file:{model}")
    base, prompt = tmp_path / "base", tmp_path / "prompt"
    shutil.copytree(model / "vae", base / "vae")
    shutil.copytree(model / FOLDER, prompt)
    flags = [f"--base=file:{base}", f"--prompt=file:{prompt}", f"--resolution={SIDE}"]
    transformer = f"--model=file:{model / 'transformer'}"
    assert segmented(photos / "a.jpg", tmp_path / "apart", transformer, *flags) == whole


def test_a_model_that_changed_makes_photos_anew(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, own := tmp_path / "own")
    flags = [str(photos / "a.jpg"), f"--model=file:{own}", f"--out={tmp_path / 'out'}"]
    assert main(flags) == main(flags) == 0
    assert capsys.readouterr().out.count("1 of 1 are done already") == 1
    transformer: Any = SD3Transformer2DModel.from_pretrained(own, subfolder="transformer")
    transformer.proj_out.bias.data.add_(0.1)
    transformer.save_pretrained(own / "transformer")
    assert main(flags) == 0
    assert "are done already" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("", "no such folder"),
        ("vae", "no subfolder vae: name with --base what the model was trained from"),
        (FOLDER, f"no {FOLDER} in it: name with --prompt"),
        (f"{FOLDER}/empty_prompt_embeds.pt", "empty_prompt_embeds.pt: no such file"),
        ("transformer/config.json", "config.json: not found"),
        ("vae/diffusion_pytorch_model.safetensors", "no diffusion_pytorch_model.safetensors"),
    ],
)
def test_what_a_model_lacks_is_named(
    lacking: str, message: str, model: Path, photos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(model, own := tmp_path / "own")
    path = own / lacking
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main([str(photos), f"--model=file:{own}", f"--out={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err


def test_options_that_can_t_be_read_are_named(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, own := tmp_path / "own")
    (own / "segment.json").write_text('{"resolutions": 64}')
    assert main([str(photos), f"--model=file:{own}", f"--out={tmp_path / 'out'}"]) == 2
    assert f"{own}/segment.json: no options of a model" in capsys.readouterr().err


# --- Runs ---------------------------------------------------------------------------------------


@recipe
class Chain(Experiment):
    """Two trainings, the second from the transformer of the first."""

    first: TransparencyTrain = TransparencyTrain()
    """Training."""

    second: TransparencyTrain = TransparencyTrain()
    """More of it."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallSD3:
    return write_small_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def trained(small: SmallSD3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a step each."""
    torch.set_num_threads(1)
    first = one_step(small_stage(small, TransparencyTrain(), timestep=900.0))
    second = evolve(first, model=evolve(first.model, transformer=Output("first", "transformer")))
    runs = tmp_path_factory.mktemp("runs")
    run(draft(Chain(first=first, second=second), "chain").resolve(), runs)
    return runs / "chain"


def one_step(stage: TransparencyTrain) -> TransparencyTrain:
    return evolve(
        stage,
        data=evolve(stage.data, global_batch=1, validation=None),
        optim=AdamW(lr=1e-3, precision="fp32", ema_decay=None),
        schedule=evolve(
            stage.schedule,
            max_steps=1,
            lr_schedule="constant",
            warmup_epochs=None,
            validate_every=None,
            pictures_every=None,
        ),
        deepspeed=evolve(stage.deepspeed, zero_stage=0, offload_optimizer=None),
        hardware=evolve(stage.hardware, device="cpu", processes=1, micro_batch=1, loader_workers=0),
        tracking=evolve(stage.tracking, tracker=None),
    )


def test_a_run_and_its_export_segment_alike(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exported"
    assert export.main([str(trained), str(folder), "--precision=fp32"]) == 0
    assert f"the model of {trained}/second" in capsys.readouterr().out
    photo = photos / "a.jpg"
    of_run = segmented(photo, tmp_path / "run", f"--from={trained}")
    # At the training's size, by the last stage.
    assert f"{trained}/second/transformer, {SIDE} px" in capsys.readouterr().out
    assert segmented(photo, tmp_path / "export", f"--model=file:{folder}") == of_run
    # The timestep of the training is part of the model.
    told = json.loads((folder / "segment.json").read_text())
    assert told == {"resolution": SIDE, "timestep": 900.0, "shift": None, "classes": 2}


def test_a_run_of_diffusion_and_its_export_segment_alike(
    small: SmallSD3, photos: Path, tmp_path: Path
) -> None:
    stage = one_step(small_stage(small, TransparencyTrain(), method="diffusion", shift=2.0))
    run(draft(Chain(first=stage, second=stage), "chain").resolve(), tmp_path, only="second")
    trained, folder, photo = tmp_path / "chain", tmp_path / "exported", photos / "a.jpg"
    assert export.main([str(trained), str(folder), "--precision=fp32"]) == 0
    of_run = segmented(photo, tmp_path / "run", f"--from={trained}", "--steps=2")
    exported = f"--model=file:{folder}"
    assert segmented(photo, tmp_path / "export", exported, "--steps=2") == of_run
    assert segmented(photo, tmp_path / "longer", exported, "--steps=3") != of_run
    assert segmented(photo, tmp_path / "other", exported, "--steps=2", "--seed=1") != of_run


def test_an_export_is_what_diffusers_own_loaders_read(
    trained: Path, small: SmallSD3, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    assert export.main([str(trained), str(folder)]) == 0
    transformer: Any = SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    stored = read_state_dict(trained / "second" / "transformer")
    for key, value in transformer.state_dict().items():
        assert torch.equal(value, stored[key].bfloat16().float()), key
    assert isinstance(AutoencoderKL.from_pretrained(folder, subfolder="vae"), AutoencoderKL)
    pairs = zip(read_published_prompt(folder / FOLDER), read_prompt(small.prompt), strict=True)
    assert all(torch.equal(written, given) for written, given in pairs)
    assert {path.name for path in folder.iterdir()} == {
        "transformer", "vae", FOLDER, "segment.json"
    }  # fmt: skip
    # It overwrites nothing.
    assert export.main([str(trained), str(folder)]) == 2


def test_runs_without_a_model_that_segments_are_named(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, own := tmp_path / "own")
    shutil.rmtree(own / "second")
    record = own / "first" / "record.json"
    content = json.loads(record.read_text())
    del content["artifacts"]["transformer"]
    record.write_text(json.dumps(content))
    assert main([str(photos), f"--from={own}", f"--out={tmp_path / 'out'}"]) == 2
    assert f"{own}: no finished stage trained a transformer" in capsys.readouterr().err
