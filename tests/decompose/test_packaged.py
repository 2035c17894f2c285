"""The model and the picture that come with the package."""

import json
import shutil
import socket
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from seethrough.data.avatars import draw_character
from seethrough.decompose.__main__ import main
from seethrough.decompose.folder import Options, decompose_images
from seethrough.decompose.images import find_images
from seethrough.decompose.models import choose, frames_together
from seethrough.decompose.options import FILE
from seethrough.decompose.packaged import FOLDER
from seethrough.decompose.settings import parse
from seethrough.engine.model_options import write_options
from seethrough.errors import InputError
from seethrough.inference.decompose import DecomposeOptions
from seethrough.inference.marigold import DepthOptions

COMMAND = ["example", "--model=avatars"]


@pytest.fixture
def packaged(layer_model: Path, depth_model: Path, tmp_path: Path) -> Path:
    """A folder as the package's, with small models."""
    folder = tmp_path / "packaged"
    for name, model, options in (
        ("layers", layer_model, DecomposeOptions(resolution=32, steps=2)),
        ("depth", depth_model, DepthOptions(resolution=32)),
    ):
        shutil.copytree(model, folder / name)
        write_options(folder / name / FILE, options)
    shutil.copy(FOLDER / "example.png", folder)
    return folder


def test_both_models_and_the_example_come_from_the_package(packaged: Path, tmp_path: Path) -> None:
    command = parse([*COMMAND, f"--out={tmp_path / 'out'}"])
    choice = choose(command, packaged)
    assert (choice.layers.unet, choice.options.resolution) == (packaged / "layers", 32)
    assert choice.depth is not None and choice.depth.unet == packaged / "depth"
    assert choice.options.decode_batch == frames_together(32) and choice.options.skip_absent
    images = find_images(command.images, packaged)
    settings = command.settings
    options = Options(seed=settings.seed, split=False, pngs=False, size=settings.size)
    assert decompose_images(images, choice, options, command.out) == []
    folder = command.out / "example"
    assert PSDImage.open(folder / "example.psd").size == (192, 192)
    assert (folder / "example_depth.psd").exists()
    assert json.loads((folder / "example.psd.json").read_text())["frame_size"] == [192, 192]


def test_frames_are_decoded_together_as_far_as_they_fill_the_published_canvas() -> None:
    assert [frames_together(side) for side in (32, 320, 640, 1024, 1280, 2048)] == [
        1600, 16, 4, 1, 1, 1
    ]  # fmt: skip


def test_the_example_is_a_character_of_the_test_split() -> None:
    character = draw_character(1012, "test", 192)
    assert np.array_equal(np.asarray(Image.open(FOLDER / "example.png")), character.page)


def test_a_file_of_that_name_is_the_user_s_own(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (image,) = find_images(["example"], packaged)
    assert image == attrs.evolve(image, path=packaged / "example.png", name="example")
    (tmp_path / "example").mkdir()
    shutil.copy(packaged / "example.png", tmp_path / "example" / "mine.png")
    (image,) = find_images(["example"], packaged)
    assert image.name == "mine"


def test_a_package_without_depth_has_a_fixed_order(packaged: Path) -> None:
    shutil.rmtree(packaged / "depth")
    assert choose(parse(COMMAND), packaged).depth is None


def test_an_installation_without_them_says_so(packaged: Path) -> None:
    shutil.rmtree(packaged / "layers")
    (packaged / "example.png").unlink()
    with pytest.raises(InputError, match=r"layers: no such folder, so this installation lacks the"):
        choose(parse(COMMAND), packaged)
    with pytest.raises(InputError, match=r"example\.png: no such file, so this installation"):
        find_images(["example"], packaged)


class TestTheModelItself:
    """The shipped weights, from one command to a PSD."""

    def test_the_example_is_taken_apart_without_a_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_network(*address: object) -> None:
            raise AssertionError(f"connects to {address}")

        monkeypatch.setattr(socket.socket, "connect", no_network)
        assert main([*COMMAND, f"--out={tmp_path}"]) == 0
        folder = tmp_path / "example"
        document = PSDImage.open(folder / "example.psd")
        assert document.size == (192, 192)
        true = {
            layer.tag: layer.rgba[..., 3] > 127
            for layer in draw_character(1012, "test", 192).layers
        }
        found = {layer.name: layer for layer in document}
        assert {"face", "topwear", "front hair", "back hair", "neck"} <= set(found)
        # At most a fifth of the parts are of tags that the character lacks.
        assert len(set(found) - set(true)) <= len(found) / 5
        for name in ("face", "topwear", "front hair", "back hair"):
            alpha = np.zeros((192, 192), bool)
            left, top, right, bottom = found[name].bbox
            alpha[top:bottom, left:right] = np.asarray(found[name].topil())[..., 3] > 127
            both, either = alpha & true[name], alpha | true[name]
            assert both.sum() / either.sum() > 0.5, name
        order = list(found)
        for back, front in (("back hair", "topwear"), ("neck", "face"), ("face", "front hair")):
            assert order.index(back) < order.index(front)
        assert [layer.name for layer in PSDImage.open(folder / "example_depth.psd")] == order
        placed = json.loads((folder / "example.psd.json").read_text())["parts"]
        depths = [placed[name]["depth_median"] for name in order]
        assert depths == sorted(depths, reverse=True)

    def test_its_card_tells_what_it_reaches(self) -> None:
        scores = json.loads((FOLDER / "scores.json").read_text())
        layers, order = scores["layers"], scores["depth"]["packed"]
        assert layers["packed"]["chain_big_iou"] >= 0.65
        assert layers["packed"]["chain_hidden_recall"] > layers["trained"]["nearest_hidden_recall"]
        assert layers["packed"]["chain_false_layers"] < 0.2
        assert order["model_all_pairs"] > order["tag_order_all_pairs"]
        assert order["model_varying_pairs"] > order["tag_order_varying_pairs"] + 0.1
        assert "| alpha IoU, big tags |" in (FOLDER / "README.md").read_text()

    def test_it_is_small_enough_to_ship(self) -> None:
        files = [path for path in FOLDER.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= 24e6
