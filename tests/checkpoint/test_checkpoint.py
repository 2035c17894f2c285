"""What is told of checkpoints, how two compare, and how harm is found."""

import os
import shutil
from pathlib import Path

import torch
from torch import Tensor

from seethrough.engine.files import file_sha256
from tests.checkpoint.conftest import DATA, Program, save


def test_inspect_names_what_it_is(
    stage: Path, unet_folder: Path, state: dict[str, Tensor], program: Program
) -> None:
    count = f"{len(state)} tensors, {sum(v.numel() for v in state.values()):,} parameters, fp32"
    said = program("inspect", stage.parent)
    first, unet, *rest = said.splitlines()
    assert first == f"{stage}: a stage of tries, finished after 12 s, ffffffffffff"
    assert unet.startswith(f"  unet: UNet2DConditionModel, {count}, ")
    step = stage / "checkpoints" / "step-00000005"
    assert rest[0].startswith(f"  {step}: a training checkpoint after 5 steps, ")
    assert rest[1].startswith(f"    average: UNet2DConditionModel, {count}")
    assert program("inspect", stage) == said
    shutil.rmtree(stage / "checkpoints")
    (stage / "unet").rename(stage / "inner")
    (stage / "unet").mkdir()
    (stage / "inner").rename(stage / "unet" / "inner")
    assert f"  unet: a pipeline of inner, {stage / 'unet'}" in program("inspect", stage)
    said = program("inspect", f"{stage}:network", code=2)
    assert f"a stage that trained no network; its folders are {stage / 'unet'}" in said
    parts = program("inspect", unet_folder).splitlines()
    assert parts[0].startswith(f"{unet_folder}: UNet2DConditionModel, {count}")
    assert parts[1].split() == [
        "conv_in",
        "2",
        "tensors,",
        "2,368",
        "parameters,",
        "fp32,",
        "9.5",
        "kB",
    ]
    assert "conv_in.weight                " in program("inspect", unet_folder, "--keys")
    assert "6 tensors" in program("inspect", DATA / "zero3")


def test_compare_tells_what_differs(
    unet_folder: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    assert "0 of" in program("compare", unet_folder, unet_folder)
    other = {key: value.clone() for key, value in state.items()}
    other["conv_in.weight"] += 0.5
    other["conv_in.bias"][0] += 1e-4
    other["conv_out.bias"] = other["conv_out.bias"][:-1]
    other["new"] = other.pop("conv_norm_out.bias")
    other["time_embedding.linear_1.bias"][0] = torch.nan
    file = save(other, tmp_path / "other.safetensors")
    said = program("compare", unet_folder, file, "--rows=3", code=1)
    lines = [line.split() for line in said.splitlines()]
    assert ["only", "in", "A:", "1", "tensors"] in lines and ["new"] in lines
    assert "shapes 4 and 3" in said and "not finite on one side" in said
    assert any(line[:2] == ["conv_in.weight", "0.5"] for line in lines)
    assert "and 1 more" in said and f"4 of {len(state) - 1} shared tensors differ" in said
    assert said.endswith(f"failed: 1\n  {unet_folder} and {file} differ\n")
    assert "0 of" in program("compare", file, file)
    said = program("compare", unet_folder, file, "--tolerance=0.001", code=1)
    assert f"3 of {len(state) - 1} shared tensors differ by more than 0.001" in said


def test_another_type_differs_by_its_rounding(
    unet_folder: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    file = save({k: v.bfloat16() for k, v in state.items()}, tmp_path / "bf16.safetensors")
    said = program("compare", unet_folder, file, "--tolerance=0.01")
    assert f"{len(state)} of {len(state)} shared tensors have another type" in said
    program("compare", unet_folder, file, code=1)


def test_verify_finds_harm(
    stage: Path, tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    checkpoints = stage / "checkpoints"
    names = [stage / "unet", checkpoints / "step-00000005", checkpoints / "step-00000010"]
    assert program("verify", stage.parent) == "".join(f"{name}: good\n" for name in names)
    (stage / "unet" / "config.json").write_text("{}")
    harmed = checkpoints / "step-00000005" / "network.safetensors"
    harmed.write_bytes(harmed.read_bytes()[:-4] + b"\1\1\1\1")
    (checkpoints / "step-00000010" / "average.json").unlink()
    said = program("verify", stage, code=1)
    assert f"{stage / 'unet'}: its content differs from the record's hash" in said
    assert f"{harmed}: its content differs from the hash in manifest.json" in said
    assert "average.json: missing, though manifest.json names it" in said
    said = program("convert", f"{stage}:network", tmp_path / "network.safetensors", code=2)
    assert f"{checkpoints}: no good checkpoint" in said and "passed over" in said

    state["conv_in.weight"][0, 0, 0, 0] = torch.inf
    file = save(state, tmp_path / "inf.safetensors")
    assert "'conv_in.weight' has numbers that are not finite" in program("verify", file, code=1)
    file.write_bytes(b"no weights")
    assert "not a readable safetensors file" in program("verify", file, code=1)


def test_verify_knows_the_hub_s_hashes(
    tmp_path: Path, state: dict[str, Tensor], program: Program
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0" / "unet"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    file = save(state, blobs / "new")
    blob = file.rename(blobs / file_sha256(file))
    os.symlink(blob, snapshot / "diffusion_pytorch_model.safetensors")
    assert program("verify", snapshot) == f"{snapshot}: good\n"
    save({**state, "conv_in.bias": state["conv_in.bias"] + 1}, blob)
    assert "but the hub's is" in program("verify", snapshot, code=1)


def test_command_lines_that_are_none(program: Program, tmp_path: Path) -> None:
    assert "PATH TARGET [--flags]" in program("--help")
    assert "convertt: no such command; did you mean convert?" in program("convertt", code=2)
    assert "write convert PATH TARGET" in program("convert", tmp_path, code=2)
    assert "--dtyp: no such flag; did you mean dtype?" in program(
        "convert", "a", "b", "--dtyp=fp32", code=2
    )
