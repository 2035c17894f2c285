"""Part segmentation measured as a user starts it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.data.part_masks import encode_mask
from seethrough.data.part_tags import FACE_CLASSES
from seethrough.data.tags import TAGS_V2
from tests.benchmark.conftest import benchmark, results, table
from tests.processes import Warm

SIZE = (10, 12)
NAMES = ("a", "b", "c")


def columns(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[:, left:right] = True
    return mask


def write_masks(path: Path, masks: dict[str, np.ndarray], invalid: tuple[str, ...] = ()) -> None:
    """Masks of the tags of V2, the others empty."""
    entries = [
        {**encode_mask(masks.get(tag, columns(0, 0))), "is_valid": tag not in invalid}
        for tag in TAGS_V2
    ]
    path.write_text(json.dumps(entries))


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Three pages: a face each, and a neck on the first, not to be relied on on the last."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(folder / f"{name}.png")
    write_masks(folder / "a.json", {"face": columns(2, 6), "neck": columns(6, 8)})
    write_masks(folder / "b.json", {"face": columns(2, 6)})
    write_masks(folder / "c.json", {"face": columns(2, 6)}, invalid=("neck",))
    return folder


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """Half of a face on the first, all of them on the others, and a neck on all but the first."""
    folder = tmp_path / "found"
    folder.mkdir()
    write_masks(folder / "a.png_masks.json", {"face": columns(4, 8)})
    write_masks(folder / "b_masks.json", {"face": columns(2, 6), "neck": columns(0, 2)})
    (folder / "c").mkdir()
    write_masks(folder / "c" / "c.png_masks.json", {"face": columns(2, 6), "neck": columns(0, 2)})
    return folder


def test_the_measures_of_three_pages(pages: Path, found: Path, tmp_path: Path):
    out = tmp_path / "out"
    benchmark("partseg", pages, found, f"--out={out}", "--worst=2")
    rows = results(out)["rows"]
    face, neck = rows["face"], rows["neck"]
    # Of the first 2 of 6 columns overlap, of the others 4 of 4.
    assert face["count"] == 3
    assert face["iou"] == pytest.approx((2 + 4 + 4) / (6 + 4 + 4))
    assert face["picture_iou"] == face["published_iou"] == pytest.approx((2 / 6 + 1 + 1) / 3)
    assert face["dice"] == pytest.approx(20 / 24)
    assert face["precision"] == face["recall"] == pytest.approx(10 / 12)
    assert face["false_parts"] is None
    # The last page's neck counts nowhere; the second has none and one was found.
    assert (neck["count"], neck["iou"], neck["recall"], neck["false_parts"]) == (1, 0, 0, 1)
    # A part that is nowhere has an overlap by the published rule alone.
    assert rows["tail"]["iou"] is None and rows["tail"]["published_iou"] == 1
    everything = rows["all"]
    assert everything["count"] == 3
    assert everything["iou"] == pytest.approx((face["iou"] + neck["iou"]) / 2)
    wrong = 4 + 2 + 2
    pixels = 12 * (3 * len(TAGS_V2) - 1)
    assert everything["accuracy"] == pytest.approx(1 - wrong / pixels)
    lines = table(out / "samples.csv")
    assert len(lines) == 3 * len(TAGS_V2)
    assert float(lines[TAGS_V2.index("face")]["iou"]) == pytest.approx(1 / 3)
    cases = (out / "worst.html").read_text().split("<h3>")[1:]
    assert [case.split("<")[0] for case in cases] == ["a: neck", "b: neck"]


def test_faces_are_measured_against_their_label_map(tmp_path: Path):
    page, labels = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8)
    labels[:, 2:6] = FACE_CLASSES.index("skin")
    Image.fromarray(page).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "a_faceseg.png")
    masks = {"skin": columns(2, 4), "l_eye": columns(0, 0), "r_eye": columns(0, 1)}
    entries = [{**encode_mask(mask), "tag": tag} for tag, mask in masks.items()]
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "a.png_masks.json").write_text(json.dumps(entries))
    benchmark("partseg", tmp_path, tmp_path / "found", f"--out={tmp_path / 'out'}")
    rows = results(tmp_path / "out")["rows"]
    assert rows["skin"]["iou"] == pytest.approx(0.5)
    assert (rows["l_eye"]["false_parts"], rows["r_eye"]["false_parts"]) == (0, 1)


def test_masks_that_do_not_fit_are_told(
    pages: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    small = encode_mask(np.zeros((5, 5), bool))
    (found / "a.png_masks.json").write_text(json.dumps([small] * 19))
    (found / "b_masks.json").write_text(json.dumps([small] * 7))
    (found / "c" / "c.png_masks.json").unlink()
    benchmark("partseg", pages, found, f"--out={tmp_path / 'out'}", code=2)
    said = capsys.readouterr().err
    assert "a.png_masks.json: the mask of 'hair' is 5 x 5 pixels, but the page is 12 x 10" in said
    assert "b_masks.json: has 7 masks that don't say their 'tag'" in said
    assert "c: no prediction of this page: there is no c.png_masks.json" in said


def test_what_different_models_found_is_not_measured_together(
    pages: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    one = [{**encode_mask(columns(2, 6)), "tag": "face"}]
    (found / "b_masks.json").write_text(json.dumps(one))
    benchmark("partseg", pages, found, f"--out={tmp_path / 'out'}", code=2)
    assert "are of different parts" in capsys.readouterr().err


def test_on_two_processes_each_sample_counts_once(
    pages: Path, found: Path, tmp_path: Path, warm: Warm
):
    (found / "b_masks.json").unlink()
    words = ("partseg", str(pages), str(found))
    benchmark(*words, f"--out={tmp_path / 'one'}", code=1)
    program = "seethrough.benchmark.__main__"
    done = warm.run(*words, f"--out={tmp_path / 'two'}", program=program, world=2)
    assert done.codes == [1, 1], done.err
    one, two = (results(tmp_path / name) for name in ("one", "two"))
    assert two["rows"] == one["rows"] and two["failed"] == one["failed"]
    assert two["rows"]["all"]["count"] == 2
    assert done.out.count("the worst cases") == 1
    # Each of the two pages that could be measured was measured by one process.
    assert done.out.count("a.png") == done.out.count("c.png") == 1
