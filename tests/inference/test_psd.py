import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from seethrough.errors import InputError
from seethrough.inference.composite import flatten, place
from seethrough.inference.parts import Part
from seethrough.inference.psd import PartFiles, write_layer_pngs, write_parts, write_psd

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


def soft_parts() -> list[Part]:
    """The layers above as parts, each with a slope of depth."""
    parts: list[Part] = []
    for index, placed in enumerate(place(soft_layers())):
        height, width = placed.rgba.shape[:2]
        slope = np.linspace(0.9 - 0.1 * index, 0.8 - 0.1 * index, width, dtype=np.float32)
        depth = np.broadcast_to(slope, (height, width))
        parts.append(
            Part(
                name=placed.name,
                tag="face",
                box=placed.box,
                rgba=placed.rgba,
                depth=depth,
                depth_median=float(np.median(depth)),
            )
        )
    return parts


@pytest.fixture
def part_files(tmp_path: Path) -> PartFiles:
    return write_parts(tmp_path / "new", "miku", soft_parts(), SIZE)


def test_parts_are_written_as_published(part_files: PartFiles):
    """Names, order and fields; `frame_size` is height and width."""
    names = ("miku.psd", "miku_depth.psd", "miku.psd.json")
    found = (part_files.psd, part_files.depth_psd, part_files.index)
    assert tuple(path.name for path in found) == names
    assert sorted(path.name for path in part_files.psd.parent.iterdir()) == sorted(names)
    parts = soft_parts()
    assert json.loads(part_files.index.read_text()) == {
        "parts": {
            part.name: {
                "xyxy": list(part.box),
                "depth_median": part.depth_median,
                "tag": part.name,
            }
            for part in parts
        },
        "frame_size": list(SIZE),
    }
    colors, depths = PSDImage.open(part_files.psd), PSDImage.open(part_files.depth_psd)
    assert colors.size == depths.size == (SIZE[1], SIZE[0])
    for document in (colors, depths):
        assert [layer.name for layer in document] == [part.name for part in parts]
        assert [layer.bbox for layer in document] == [part.box for part in parts]


def test_depth_comes_back_to_half_a_level(part_files: PartFiles):
    document = PSDImage.open(part_files.depth_psd)
    assert (document.pil_mode, document.depth) == ("L", 8)
    for layer, part in zip(document, soft_parts(), strict=True):
        values = layer.numpy()
        assert values is not None
        assert np.abs(values[..., 0] - part.depth).max() <= 0.501 / 255
        assert np.array_equal(np.rint(values[..., 1] * 255), part.rgba[..., 3])


def test_the_flat_depth_is_of_what_is_in_front(part_files: PartFiles):
    document = PSDImage.open(part_files.depth_psd)
    expected = np.ones(SIZE)
    for part in soft_parts():
        alpha = part.rgba[..., 3] / 255
        expected[part.window] = part.depth * alpha + expected[part.window] * (1 - alpha)
    with Image.open(part_files.depth_psd) as picture:
        assert np.abs(np.asarray(picture) / 255 - expected).max() <= 1 / 255
    # psd-tools' own rendering of the layers, as a witness.
    gray, alpha = np.moveaxis(np.asarray(document.composite(force=True)) / 255, -1, 0)
    assert np.abs(gray * alpha + 1 - alpha - expected).max() < 3 / 255


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond 4096 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_earlier_files_as_they_were(tmp_path: Path, part_files: PartFiles):
    folder = part_files.psd.parent
    earlier = {path.name: path.read_bytes() for path in folder.iterdir()}
    with full_disk(), pytest.raises(InputError, match=r"miku.*can't be written \(File too large\)"):
        write_parts(folder, "miku", soft_parts()[::-1], SIZE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == earlier


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "page.psd").mkdir()
    with pytest.raises(InputError, match=r"page\.psd: can't be written \(Is a directory\)"):
        write_psd(tmp_path / "page.psd", [], SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["page.psd"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(InputError, match=r"out/page\.psd: can't be written"):
        write_psd(tmp_path / "out" / "page.psd", [], SIZE)
    assert (tmp_path / "out").read_text() == "kept"


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
