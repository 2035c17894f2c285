"""Weights from one form and type into another, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from seethrough.models import TransparentVAE
from seethrough.models.checkpoints import load_model, read_state_dict
from tests.checkpoint.conftest import DATA, Program, save, small_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_folder_to_a_file_in_half_the_bytes_and_back(
    unet_folder: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    file, folder = tmp_path / "unet.safetensors", tmp_path / "unet"
    said = program("convert", unet_folder, file, "--dtype=bf16")
    assert said.startswith(f"{file}: {len(state)} tensors, ") and ", bf16, " in said
    halves = {key: value.bfloat16() for key, value in state.items()}
    assert equal(load_file(file), halves)
    # A file has no config: a folder of it needs one.
    said = program("convert", file, folder, code=2)
    assert "has no config.json, which a folder needs: give --config=FOLDER" in said
    program("convert", file, folder, f"--config={unet_folder}", "--dtype=fp32")
    # diffusers' own loader reads what we write.
    model = UNet2DConditionModel.from_pretrained(folder)
    assert equal(dict(model.state_dict()), {key: value.float() for key, value in halves.items()})


def test_shards_of_a_folder(unet_folder: Path, tmp_path: Path, program: Program) -> None:
    program("convert", unet_folder, tmp_path / "cut", "--shard_gb=0.0005")
    shards = sorted((tmp_path / "cut").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    assert all(shard.stat().st_size < 620_000 for shard in shards)
    assert equal(read_state_dict(tmp_path / "cut"), read_state_dict(unet_folder))
    assert "0 of" in program("compare", tmp_path / "cut", unet_folder)
    UNet2DConditionModel.from_pretrained(tmp_path / "cut")


def test_nf4_and_back(unet_folder: Path, tmp_path: Path, program: Program) -> None:
    said = program("convert", unet_folder, tmp_path / "packed", "--dtype=nf4")
    assert "4 bits" in said and "bf16" in said
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    # Layers that can't be packed are named for loaders that go by the config.
    plain = config["quantization_config"]["llm_int8_skip_modules"]
    assert any(name.endswith("attn2.to_k") for name in plain)
    assert not any(name.endswith("attn1.to_k") for name in plain)
    packed = load_model(UNet2DConditionModel, tmp_path / "packed")
    assert packed.dtype == torch.bfloat16

    program("convert", tmp_path / "packed", tmp_path / "plain", "--dtype=fp32")
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()
    before, after = read_state_dict(unet_folder), read_state_dict(tmp_path / "plain")
    assert before.keys() == after.keys()
    key = next(key for key in before if key.endswith("attn1.to_k.weight"))
    error = (before[key] - after[key]).norm() / before[key].norm()
    assert 0.01 < error < 0.2
    said = program(
        "convert", unet_folder / WEIGHTS, tmp_path / "no.safetensors", "--dtype=nf4", code=2
    )
    assert "which of its layers can be packed tells its config alone" in said


def test_a_pipeline_keeps_its_other_files(
    autoencoders: Path, tmp_path: Path, program: Program
) -> None:
    (autoencoders / "scheduler").mkdir()
    (autoencoders / "scheduler" / "scheduler_config.json").write_text("{}")
    (autoencoders / "model_index.json").write_text("{}")
    small_unet().save_pretrained(autoencoders / "unet")
    program("convert", autoencoders, tmp_path / "packed", "--dtype=nf4")
    found = {path.name for path in (tmp_path / "packed").iterdir()}
    assert found == {"vae", "trans_vae", "unet", "scheduler", "model_index.json"}
    said = program("inspect", tmp_path / "packed")
    lines = {line.split(":")[0].strip(): line for line in said.splitlines()}
    assert "4 bits" in lines["unet"] and "AutoencoderKL" in lines["vae"]
    assert "quantization_config" not in (tmp_path / "packed/vae/config.json").read_text()
    assert ", bf16," in lines["vae"] and "4 bits" not in lines["trans_vae"]
    said = program("convert", autoencoders, tmp_path / "all.safetensors", code=2)
    assert f"don't go into one file: give {autoencoders}:trans_vae" in said


def test_the_average_of_a_stage_or_of_one_checkpoint(
    stage: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    program("ema", stage, tmp_path / "average")
    # The config is that of what the stage left.
    model = UNet2DConditionModel.from_pretrained(tmp_path / "average")
    assert equal(dict(model.state_dict()), {key: value + 5 for key, value in state.items()})
    earlier = stage / "checkpoints" / "step-00000005"
    program("ema", earlier, tmp_path / "earlier.safetensors")
    program("convert", f"{earlier}:network", tmp_path / "network.safetensors")
    assert equal(
        load_file(tmp_path / "earlier.safetensors"), {k: v + 2.5 for k, v in state.items()}
    )
    assert equal(load_file(tmp_path / "network.safetensors"), {k: v + 5 for k, v in state.items()})
    said = program("ema", stage / "unet", tmp_path / "no.safetensors", code=2)
    assert "keeps no average: give a stage of a run, or a training checkpoint" in said


def test_a_harmed_checkpoint_is_passed_over(
    stage: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    harmed = stage / "checkpoints" / "step-00000010" / "average.safetensors"
    harmed.write_bytes(harmed.read_bytes()[:-4] + b"\0\0\0\0")
    program("ema", stage, tmp_path / "average.safetensors")
    assert equal(
        load_file(tmp_path / "average.safetensors"), {k: v + 2.5 for k, v in state.items()}
    )


def test_a_combined_checkpoint_becomes_two_folders(
    autoencoders: Path, tmp_path: Path, program: Program
) -> None:
    vae = read_state_dict(autoencoders / "vae")
    transparent_vae = read_state_dict(autoencoders / "trans_vae")
    combined = {f"vae.{key}": value + 1 for key, value in vae.items()}
    combined |= {
        f"trans_{key}": value + 2
        for key, value in transparent_vae.items()
        if key.startswith("decoder.")
    }
    file = save(combined, tmp_path / "checkpoint-100.safetensors")
    program("convert", file, tmp_path / "split", f"--config={autoencoders}")
    AutoencoderKL.from_pretrained(tmp_path / "split" / "vae")
    load_model(TransparentVAE, tmp_path / "split" / "trans_vae")
    assert equal(read_state_dict(tmp_path / "split/vae"), {k: v + 1 for k, v in vae.items()})
    # The file has no offset encoder: the one that was there stays.
    assert equal(
        read_state_dict(tmp_path / "split/trans_vae"),
        {k: v + 2 * k.startswith("decoder.") for k, v in transparent_vae.items()},
    )
    program("convert", f"{file}:trans_decoder", tmp_path / "decoder.safetensors")
    assert all(key.startswith("model.") for key in load_file(tmp_path / "decoder.safetensors"))
    said = program("convert", file, tmp_path / "again", code=2)
    assert "a combined checkpoint of autoencoders: give --config=FOLDER" in said


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_what_deepspeed_cut_over_two_processes(
    zero_stage: int, tmp_path: Path, program: Program
) -> None:
    """Files that DeepSpeed 0.19.8 wrote after three steps; `expected` is what it reads itself."""
    folder = DATA / f"zero{zero_stage}"
    program("convert", folder, tmp_path / "whole.safetensors")
    found = load_file(tmp_path / "whole.safetensors")
    expected = load_file(DATA / f"expected{zero_stage}.safetensors")
    assert {key: value.dtype for key, value in found.items() if key in expected} == {
        key: value.dtype for key, value in expected.items()
    }
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    # Under ZeRO-1 DeepSpeed's own reader leaves out what wasn't trained.
    assert found.keys() - expected.keys() == (
        {"frozen.weight", "frozen.bias"} if zero_stage == 1 else set()
    )


def test_a_file_of_another_process_is_missed(tmp_path: Path, program: Program) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in sorted((DATA / "zero3" / "pytorch_model").iterdir())[:-1]:
        (folder / file.name).write_bytes(file.read_bytes())
    said = program("convert", folder, tmp_path / "whole.safetensors", code=2)
    assert "2 processes wrote it, but 1 files *_model_states.pt are there" in said


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this ran",))


def test_what_is_refused(
    unet_folder: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    lacking = dict(state)
    key = lacking.popitem()[0]
    torch.save({"model": state, "step": 3}, tmp_path / "good.pt")
    torch.save({"model": state, "other": state}, tmp_path / "two.pt")
    torch.save({"model": Code()}, tmp_path / "code.pt")
    (tmp_path / "text.txt").write_text("no weights")
    (tmp_path / "empty").mkdir()
    large = {"weight": torch.full((2,), 1e6)}
    config = f"--config={unet_folder}"
    lines: dict[str, list[object]] = {
        "lacks tensors": [save(lacking, tmp_path / "lacking.safetensors"), config],
        key: [save(lacking, tmp_path / "lacking.safetensors"), config],
        "it is refused": [tmp_path / "code.pt"],
        "parts of it are: model, other": [tmp_path / "two.pt"],
        "neither .safetensors nor .pt": [tmp_path / "text.txt"],
        "no such file or folder": [tmp_path / "nowhere"],
        "it holds nothing": [tmp_path / "empty"],
        "too large for fp16": [save(large, tmp_path / "large.safetensors"), "--dtype=fp16"],
        "did you mean mid_block": [f"{unet_folder}:mid_blok"],
        "accepted: one of keep, fp32": [unet_folder, "--dtype=int8"],
    }
    for message, (source, *flags) in lines.items():
        target = tmp_path / ("folder" if config in flags else "file.safetensors")
        said = program("convert", source, target, *flags, code=2)
        assert message in said, said
        assert "this ran" not in said
    assert not list(tmp_path.glob(".partial*")) and not list(tmp_path.glob("f*"))
    program("convert", tmp_path / "good.pt", tmp_path / "one.safetensors")
    tied = torch.ones(3)
    torch.save({"encoder": tied, "decoder": tied, "part": tied[:2]}, tmp_path / "tied.pt")
    program("convert", tmp_path / "tied.pt", tmp_path / "tied.safetensors")
    assert {k: len(v) for k, v in load_file(tmp_path / "tied.safetensors").items()} == {
        "encoder": 3,
        "decoder": 3,
        "part": 2,
    }
    program("convert", f"{tmp_path / 'two.pt'}:other", tmp_path / "other.safetensors")
    said = program("convert", unet_folder, tmp_path / "one.safetensors", code=2)
    assert "is there already: give a new name" in said


@pytest.mark.parametrize("name", ["trans_vae", "transparent_vae"])
def test_two_folders_become_a_combined_checkpoint_and_again_two(
    autoencoders: Path, tmp_path: Path, program: Program, name: str
) -> None:
    """A pipeline's two, or what a stage that trains them makes."""
    (autoencoders / "trans_vae").rename(autoencoders / name)
    file = tmp_path / "checkpoint-100.safetensors"
    program("convert", autoencoders, file)
    assert {key.partition(".")[0] for key in load_file(file)} == {
        "vae", "trans_decoder", "trans_encoder",
    }  # fmt: skip
    assert "trans_decoder.model.conv_out.weight" in load_file(file)
    program("convert", file, tmp_path / "split", f"--config={autoencoders}")
    for old, new in (("vae", "vae"), (name, "trans_vae")):
        found = tmp_path / "split" / new
        assert equal(read_state_dict(found), read_state_dict(autoencoders / old))
        assert json.loads((found / "config.json").read_text()) == json.loads(
            (autoencoders / old / "config.json").read_text()
        )
