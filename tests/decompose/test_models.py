"""Models of layers and of depth: repositories, folders, runs of ours, and what does not fit."""

import json
import shutil
from pathlib import Path

import pytest
from psd_tools import PSDImage

from seethrough.data.tags import TAGS_V2
from seethrough.decompose.__main__ import main
from tests.decompose.models import RESOLUTION, write_layer_model, write_packed_layer_model
from tests.tasks.small import Small


def options(out: Path) -> list[str]:
    return [f"--resolution={RESOLUTION}", "--steps=2", "--depth_resolution=32", f"--out={out}"]


def test_depth_decides_the_order(
    layer_model: Path,
    depth_model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = [f"--layers=file:{layer_model}", f"--depth=file:{depth_model}"]
    arguments = [str(pictures / "one.png"), *models, *options(tmp_path)]
    assert main(arguments) == 0
    assert f"depth: {depth_model}, 32 px, 4 steps" in capsys.readouterr().out
    folder = tmp_path / "one"
    assert {path.name for path in folder.iterdir()} == {
        "one.psd", "one_depth.psd", "one.psd.json", "index.html", "record.json"
    }  # fmt: skip
    parts = json.loads((folder / "one.psd.json").read_text())["parts"]
    assert [layer.name for layer in PSDImage.open(folder / "one.psd")] == list(parts)
    medians = [part["depth_median"] for part in parts.values()]
    assert medians == sorted(medians, reverse=True) and len(set(medians)) > 2
    # The same command on another day gives the same bytes.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    assert main(arguments) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # Runs from several noises say another depth.
    assert main([*arguments, "--depth_ensemble=2"]) == 0
    assert (folder / "one_depth.psd").read_bytes() != before["one_depth.psd"]


def test_pairs_are_split_with_and_without_depth(
    layer_model: Path, depth_model: Path, pictures: Path, tmp_path: Path
) -> None:
    arguments = [str(pictures / "one.png"), f"--layers=file:{layer_model}", "--split"]
    for more in ([], [f"--depth=file:{depth_model}"]):
        out = tmp_path / str(len(more))
        assert main([*arguments, *more, *options(out)]) == 0
        document = PSDImage.open(out / "one" / "one.psd")
        found = [layer.name for layer in document]
        assert len(set(found)) == len(found)
        assert {name[-2:] for name in found} & {"-l", "-r"}


def test_the_v2_flow(small: Small, pictures: Path, tmp_path: Path) -> None:
    model = write_layer_model(tmp_path / "v2", small, tag_version="v2")
    arguments = [str(pictures / "one.png"), f"--layers=file:{model}", "--pngs"]
    assert main([*arguments, *options(tmp_path)]) == 0
    assert {path.stem for path in (tmp_path / "one" / "layers").iterdir()} == set(TAGS_V2)


def test_weights_of_4_bits(small: Small, pictures: Path, tmp_path: Path) -> None:
    model = write_packed_layer_model(tmp_path / "nf4", small)
    arguments = [str(pictures / "one.png"), f"--layers=file:{model}", *options(tmp_path)]
    assert main(arguments) == 0
    assert len(PSDImage.open(tmp_path / "one" / "one.psd"))


def break_model(problem: str, model: Path) -> str:
    """Spoil a copy of the model of layers; returns what is said of it."""
    if problem == "no trans_vae":
        shutil.rmtree(model / "trans_vae")
        return f"--layers: {model} lacks trans_vae: give a whole repository"
    if problem == "no text encoder":
        shutil.rmtree(model / "text_encoder_2")
        return f"--layers: {model} lacks text_encoder_2"
    if problem == "no weights":
        (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        return f"{model}/unet: no diffusion_pytorch_model.safetensors"
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    return "not a readable safetensors file"


@pytest.mark.parametrize("problem", ["no trans_vae", "no text encoder", "no weights", "broken"])
def test_a_model_with_missing_parts_is_named_and_earlier_results_stay(
    problem: str,
    layer_model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, earlier = tmp_path / "model", tmp_path / "one" / "one.psd"
    shutil.copytree(layer_model, model)
    earlier.parent.mkdir()
    earlier.write_text("earlier")
    message = break_model(problem, model)
    image = str(pictures / "one.png")
    assert main([image, f"--layers=file:{model}", *options(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert earlier.read_text() == "earlier"


def test_a_model_of_another_family_is_named(
    small: Small,
    layer_model: Path,
    depth_model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, layers = str(pictures / "one.png"), f"--layers=file:{layer_model}"
    for models, message in (
        ([f"--layers=file:{depth_model}"], "holds a model of depth: give it as --depth"),
        ([layers, f"--depth=file:{layer_model}"], "holds a model of layers: give it as --layers"),
        ([f"--layers=file:{small.base}"], f"{small.base} lacks trans_vae: give a whole"),
        ([layers, f"--depth=file:{small.base}"], "give the UNet of Marigold 3D"),
        ([layers, f"--depth=file:{small.marigold}"], "give the UNet of Marigold 3D"),
        ([layers, "--depth=file:nowhere"], "--depth: nowhere: no such folder"),
        ([f"--from={tmp_path}"], f"{tmp_path}: no finished stage of a run lies there"),
        ([layers, f"--depth=file:{depth_model}", "--depth_resolution=30"], "no multiple of 8"),
    ):
        arguments = [image, *models, f"--out={tmp_path}", "--steps=1"]
        if "--depth_resolution=30" not in models:
            arguments.append("--depth_resolution=32")
        assert main([*arguments, f"--resolution={RESOLUTION}"]) == 2
        assert message in capsys.readouterr().err


def test_a_repository_that_is_not_in_the_cache_is_named(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(pictures / "one.png")
    assert main([image, "--layers=hub:nobody/nothing", f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("--layers: hub model nobody/nothing is not in the cache")
