from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from seethrough.errors import InputError
from seethrough.inference.composite import flatten, place
from seethrough.inference.psd import write_layer_pngs, write_psd

SIZE = (40, 56)
NAMES = ("back hair", "前髪", "Ärmel ≠ 🎀", "face", "empty", "n" * 255)


def soft_layers() -> dict[str, np.ndarray]:
    """Noise in overlapping boxes with all degrees of transparency; one layer is empty."""
    rng = np.random.default_rng(7)
    layers: dict[str, np.ndarray] = {}
    for index, name in enumerate(NAMES):
        layer = np.zeros((*SIZE, 4), np.uint8)
        top, left = 3 * index, 5 * index
        layer[top : top + 20, left : left + 24] = rng.integers(0, 256, (20, 24, 4))
        layer[top : top + 20, left : left + 24, 3] |= 1
        layers[name] = layer
    layers["empty"][..., 3] = 0
    return layers


@pytest.fixture
def written(tmp_path: Path) -> tuple[dict[str, np.ndarray], Path]:
    layers = soft_layers()
    write_psd(tmp_path / "page.psd", place(layers), SIZE)
    return layers, tmp_path / "page.psd"


def test_names_order_offsets_and_pixels_come_back(written: tuple[dict[str, np.ndarray], Path]):
    layers, path = written
    document = PSDImage.open(path)
    assert document.size == (SIZE[1], SIZE[0])
    kept = [name for name in NAMES if name != "empty"]
    assert [layer.name for layer in document] == kept
    for layer in document:
        index = NAMES.index(layer.name)
        assert (layer.left, layer.top) == (5 * index, 3 * index)
        picture = layer.topil()
        assert picture is not None
        box = np.s_[layer.top : layer.bottom, layer.left : layer.right]
        assert np.array_equal(np.asarray(picture), layers[layer.name][box])


def shown(image: Image.Image | None) -> np.ndarray:
    """What a straight RGBA picture shows: premultiplied colour and alpha in [0, 1]."""
    assert image is not None and image.mode == "RGBA"
    values = np.asarray(image) / 255
    return np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=-1)


def test_the_flat_picture_is_the_layers_over_each_other(
    written: tuple[dict[str, np.ndarray], Path],
):
    layers, path = written
    document = PSDImage.open(path)
    assert document.has_preview()
    flat = flatten(layers.values(), SIZE)
    merged = shown(document.topil())
    assert np.abs(merged - np.dstack([flat.color, flat.alpha])).max() <= 1 / 255 + 1e-6
    assert np.abs(merged[..., 3] - flat.alpha).max() <= 0.5 / 255 + 1e-6
    # psd-tools' own rendering of the layers is an independent witness; it truncates its 8-bit
    # colour and alpha, which costs up to a level each.
    rendered = shown(document.composite(force=True))
    assert np.abs(merged - rendered).max() < 3 / 255


def test_a_viewer_without_layers_shows_the_flat_picture_on_white(
    written: tuple[dict[str, np.ndarray], Path],
):
    layers, path = written
    with Image.open(path) as image:
        assert image.size == (SIZE[1], SIZE[0])
        on_white = np.asarray(image.convert("RGB")) / 255
    flat = flatten(layers.values(), SIZE)
    # Half a level more than the stored colour's own: alpha is rounded apart from it.
    assert np.abs(on_white - (flat.color + 1 - flat.alpha[..., None])).max() <= 1.5 / 255


def test_the_same_layers_give_the_same_bytes(tmp_path: Path):
    for name in ("a.psd", "b.psd"):
        write_psd(tmp_path / name, place(soft_layers()), SIZE)
    assert (tmp_path / "a.psd").read_bytes() == (tmp_path / "b.psd").read_bytes()


def test_no_layer_at_all_is_a_transparent_document(tmp_path: Path):
    write_psd(tmp_path / "none.psd", [], SIZE)
    document = PSDImage.open(tmp_path / "none.psd")
    assert len(document) == 0
    assert not shown(document.topil()).any()


def test_a_page_beyond_the_format_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"30001 x 1.*lower resolution"):
        write_psd(tmp_path / "huge.psd", [], (1, 30001))


def test_pngs_come_back_exactly(tmp_path: Path):
    layers = {"front hair": soft_layers()["前髪"], "face": soft_layers()["face"]}
    paths = write_layer_pngs(tmp_path / "new" / "layers", layers)
    assert paths["front hair"].name == "front hair.png"
    for tag, layer in layers.items():
        with Image.open(paths[tag]) as image:
            assert np.array_equal(np.asarray(image), layer)


@pytest.mark.parametrize("tag", ["../face", "a/b", "..", ""])
def test_a_tag_that_is_no_file_name_is_refused(tmp_path: Path, tag: str):
    with pytest.raises(InputError, match="rename its tag"):
        write_layer_pngs(tmp_path, {tag: np.zeros((1, 1, 4), np.uint8)})
    assert not list(tmp_path.iterdir())
