"""Trans10K's layouts: which pairs a split has, and how they are read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.data.trans10k import (
    CLASSES,
    Pair,
    find_pairs,
    find_version,
    read_mask,
    read_pair,
    read_photo,
)
from seethrough.errors import InputError
from tests.data.photos import COLOURS, scene, write_copy, write_mask, write_pair, write_photo


def names(pairs: list[Pair]) -> list[str]:
    return [f"{pair.difficulty} {pair.name}" for pair in pairs]


# --- Which pairs --------------------------------------------------------------------------------


def test_version_1_tells_difficulties_but_in_training(tmp_path: Path):
    write_copy(tmp_path, {"train": 2, "test/easy": 2, "test/hard": 1, "validation/hard": 1})
    assert find_version(tmp_path) == "v1"
    assert names(find_pairs(tmp_path, "train")) == ["None 0", "None 1"]
    assert names(find_pairs(tmp_path, "test")) == ["easy 0", "easy 1", "hard 0"]
    assert names(find_pairs(tmp_path, "test", "hard")) == ["hard 0"]
    assert names(find_pairs(tmp_path, "validation")) == ["hard 0"]


def test_version_2_has_no_difficulties(tmp_path: Path):
    write_copy(tmp_path, {"train": 1, "test": 2}, "v2")
    pairs = find_pairs(tmp_path, "test")
    assert find_version(tmp_path) == "v2" and names(pairs) == ["None 0", "None 1"]
    assert {pair.version for pair in pairs} == {"v2"}
    with pytest.raises(InputError, match=r"test: no easy photo"):
        find_pairs(tmp_path, "test", "easy")


def test_photos_come_by_name_whatever_the_case_of_their_ending(tmp_path: Path):
    """Number 6 of the parity tests, but that order is the same on every machine."""
    folder = write_copy(tmp_path, {"train": 2}) / "train"
    (folder / "images" / "0.jpg").rename(folder / "images" / "0.JPG")
    write_photo(folder / "images" / "5.png", scene()[0])
    (folder / "images" / ".hidden.jpg").write_bytes(b"")
    assert [pair.photo.name for pair in find_pairs(tmp_path, "train")] == ["0.JPG", "1.jpg"]


def test_a_photo_without_a_mask_is_an_error(tmp_path: Path):
    """The published program leaves it out in silence."""
    write_copy(tmp_path, {"train": 3})
    (tmp_path / "train/masks/1_mask.png").unlink()
    with pytest.raises(InputError) as error:
        find_pairs(tmp_path, "train")
    text = str(error.value)
    assert "1.jpg" in text and "masks/1_mask.png does not exist" in text and "1 of 3" in text


def test_a_split_without_photos_and_an_absent_folder_are_errors(tmp_path: Path):
    write_copy(tmp_path, {"train": 1})
    with pytest.raises(InputError, match=r"test: no photo \(images/\*\.jpg\) in this split"):
        find_pairs(tmp_path, "test")
    with pytest.raises(InputError, match=r"elsewhere: no such folder of Trans10K"):
        find_pairs(tmp_path / "elsewhere", "train")


# --- What a pair holds --------------------------------------------------------------------------


def test_classes_of_version_1_are_told_by_colour(tmp_path: Path):
    """Number 5 of the parity tests: any primary colour is a thing, white is stuff."""
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (85, 85, 85), (255, 255, 255)]
    path = tmp_path / "a_mask.png"
    picture = Image.fromarray(np.array([colours], np.uint8))
    picture.save(path)
    assert read_mask(path, "v1").tolist() == [[0, 1, 1, 1, 1, 2]]
    # The same with a palette, and with an alpha that says nothing.
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    assert read_mask(path, "v1").tolist() == [[0, 1, 1, 1, 1, 2]]
    picture.convert("RGBA").save(path)
    assert read_mask(path, "v1").tolist() == [[0, 1, 1, 1, 1, 2]]


def test_a_mask_of_three_values_has_both_classes(tmp_path: Path):
    classes = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    mask = read_mask(write_mask(tmp_path / "a_mask.png", classes), "v1")
    assert mask.dtype == np.uint8 and mask.tolist() == classes.tolist()


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ([(0, 0, 0), (3, 3, 3), (255, 255, 255)], r".* such as \(3, 3, 3\), in 1 of 3 pixels"),
        ([(0, 0, 0), (128, 128, 128), (255, 255, 255)], r".*\(128, 128, 128\)"),
        ([(255, 255, 0), (0, 254, 0), (0, 0, 0)], r".*\(0, 254, 0\), \(255, 255, 0\), in 2 "),
    ],
)
def test_other_colours_are_an_error(tmp_path: Path, colours: list[tuple[int, ...]], said: str):
    """Grey between black and white too: published, all that isn't black is transparent."""
    path = tmp_path / "a_mask.png"
    Image.fromarray(np.array([colours], np.uint8)).save(path)
    with pytest.raises(InputError, match=rf"a_mask\.png: {said}"):
        read_mask(path, "v1")


def test_classes_of_version_2_are_indices(tmp_path: Path):
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = write_mask(tmp_path / "a_mask.png", classes, "v2")
    assert Image.open(path).mode == "P" and read_mask(path, "v2").tolist() == classes.tolist()
    assert len(CLASSES["v2"]) == 12
    Image.fromarray(classes + 1).save(path)
    with pytest.raises(InputError, match=r"a_mask\.png: no classes of version 2: 12"):
        read_mask(path, "v2")
    Image.fromarray(COLOURS[classes % 3]).save(path)
    with pytest.raises(InputError, match=r"pixels of kind RGB"):
        read_mask(path, "v2")


def test_a_pair_is_read_as_its_photo_is_seen(tmp_path: Path):
    photo, classes = scene()
    pair = Pair(*write_pair(tmp_path, "a"), version="v1")
    found, mask = read_pair(pair)
    assert np.abs(found.astype(int) - photo).max() < 12 and mask.tolist() == classes.tolist()
    # A camera held sideways stores another picture and says so.
    write_photo(pair.photo, np.rot90(photo), orientation=6)
    turned, mask = read_pair(pair)
    assert turned.shape == photo.shape and np.abs(turned.astype(int) - photo).max() < 12


def test_a_grey_photo_has_three_equal_channels(tmp_path: Path):
    grey = scene()[0][..., 0]
    photo = read_photo(write_photo(tmp_path / "a.jpg", grey))
    assert photo.shape == (24, 32, 3) and (photo == photo[..., :1]).all()


def test_unequal_sizes_name_both_files(tmp_path: Path):
    """Number 7 of the parity tests: a mask turned by 90 degrees."""
    pair = Pair(*write_pair(tmp_path, "a"), version="v1")
    write_mask(pair.mask, np.rot90(scene()[1]))
    with pytest.raises(InputError) as error:
        read_pair(pair)
    text = str(error.value)
    assert f"{pair.photo} has 32 x 24 px" in text and f"{pair.mask} has 24 x 32" in text
    assert "trans10k check" in text


def test_broken_files_are_named(tmp_path: Path):
    pair = Pair(*write_pair(tmp_path, "a"), version="v1")
    whole = pair.photo.read_bytes()
    pair.photo.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"a\.jpg: broken or truncated image"):
        read_pair(pair)
    pair.photo.write_bytes(whole)
    pair.mask.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a_mask\.png: broken image"):
        read_pair(pair)
    pair.mask.unlink()
    with pytest.raises(InputError, match=r"a_mask\.png: no such mask"):
        read_pair(pair)
