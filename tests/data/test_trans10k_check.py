"""The check of a copy of Trans10K: what it finds, and the corrected copy that it writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.data.trans10k import find_pairs, read_pair
from seethrough.data.trans10k_check import ORIENTATIONS, check, write_corrected
from seethrough.errors import InputError
from seethrough.trans10k import main
from tests.data.photos import scene, write_copy, write_mask, write_photo

PHOTO, CLASSES = scene(60, 80)


def write(root: Path, photo: np.ndarray, mask: np.ndarray, orientation: int | None = None) -> None:
    write_photo(root / "train/images/a.jpg", photo, orientation)
    write_mask(root / "train/masks/a_mask.png", mask)


def problems(root: Path) -> list[str]:
    return [finding.problem for finding in check(root)[1]]


def corrected(root: Path, folder: Path) -> np.ndarray:
    """The mask of the one pair that a corrected copy has."""
    pairs, findings, _ = check(root)
    assert write_corrected(root, pairs, findings, folder) == 1
    assert check(folder)[1:] == ([], [])
    (pair,) = find_pairs(folder, "train")
    return read_pair(pair)[1]


def test_nothing_is_wrong_with_a_right_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_copy(tmp_path, {"train": 2, "test/easy": 1})
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "3 pairs: 3 right, 0 that a corrected copy mends, 0 that it leaves out; 0 masks without a "
        "photo\n"
    )


@pytest.mark.parametrize("quarter_turns", [1, 3])
def test_a_turned_mask_is_turned_back(tmp_path: Path, quarter_turns: int):
    """Which way is seen by the photo's edges."""
    write(tmp_path / "old", PHOTO, np.rot90(CLASSES, quarter_turns))
    (problem,) = problems(tmp_path / "old")
    way = "clockwise" if quarter_turns == 1 else "counter-clockwise"
    assert (
        problem == f"80 x 60 px and 60 x 80 px: the mask fits when it is turned {way} by 90 degrees"
    )
    assert np.array_equal(corrected(tmp_path / "old", tmp_path / "new"), CLASSES)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_that_lies_as_its_photo_is_stored(tmp_path: Path, orientation: int):
    """It was drawn by a program that left out the camera's orientation."""
    write(tmp_path / "old", PHOTO, CLASSES, orientation)
    (problem,) = problems(tmp_path / "old")
    assert problem.endswith(f"is stored, but its camera noted orientation {orientation}")
    seen = Image.fromarray(CLASSES).transpose(ORIENTATIONS[orientation])
    assert np.array_equal(corrected(tmp_path / "old", tmp_path / "new"), np.asarray(seen))
    # Photos keep their bytes, and so the orientation.
    old, new = (tmp_path / name / "train/images/a.jpg" for name in ("old", "new"))
    assert old.read_bytes() == new.read_bytes()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_that_lies_as_its_photo_is_seen_is_right(tmp_path: Path, orientation: int):
    seen = Image.fromarray(CLASSES).transpose(ORIENTATIONS[orientation])
    write(tmp_path, PHOTO, np.asarray(seen), orientation)
    assert problems(tmp_path) == []


def test_what_no_turn_mends_is_left_out(tmp_path: Path):
    root = write_copy(tmp_path / "old", {"train": 1})
    write(root, PHOTO, CLASSES[:50])
    write_photo(root / "train/images/b.jpg", np.full((60, 80, 3), 9, np.uint8))
    write_mask(root / "train/masks/b_mask.png", CLASSES.T)
    write_photo(root / "train/images/c.jpg", PHOTO)
    pairs, findings, _ = check(root)
    assert [(f.pair.name, f.turn) for f in findings] == [("a", None), ("b", None), ("c", None)]
    assert findings[0].problem == "80 x 60 px and 80 x 50 px: neither equal nor turned"
    assert findings[1].problem.endswith("turned by 90 degrees, which way can't be told")
    assert "no such mask" in findings[2].problem
    assert write_corrected(root, pairs, findings, tmp_path / "new") == 1


def test_a_turned_mask_of_version_2_keeps_its_classes(tmp_path: Path):
    folder = tmp_path / "old/train"
    classes = CLASSES * 11
    write_photo(folder / "images/a.jpg", PHOTO)
    write_mask(folder / "masks_12/a_mask.png", np.rot90(classes), "v2")
    assert np.array_equal(corrected(tmp_path / "old", tmp_path / "new"), classes)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_copy(tmp_path / "old", {"train": 1})
    write(root, PHOTO, np.rot90(CLASSES))
    write_mask(root / "train/masks/z_mask.png", CLASSES)
    new = tmp_path / "new"
    assert main(["check", str(root), f"--write={new}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train/images/a.jpg and train/masks/a_mask.png: 80 x 60 px")
    assert lines[1:] == [
        "train/masks/z_mask.png: no photo has this mask",
        "2 pairs: 1 right, 1 that a corrected copy mends, 0 that it leaves out; 1 masks without a "
        "photo",
        f"{new}: 2 pairs written",
    ]
    assert main(["check", str(root), f"--write={new}"]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_bad_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["check"], ["mend", "x"], ["check", "x", "--wirte=y"]):
        assert main(words) == 2
        assert "write python -m seethrough.trans10k check" in capsys.readouterr().err
    with pytest.raises(InputError, match="no split has a photo"):
        check(tmp_path)
    assert main([]) == 0
    assert "train/masks/NAME_mask.png" in capsys.readouterr().out
