"""A model measured on a small copy of Trans10K, as a user starts it."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seethrough.data.trans10k import find_pairs, read_mask
from seethrough.evaluate.__main__ import main
from seethrough.metrics.segmentation import TransLabScores
from tests.processes import Warm
from tests.segment.conftest import write_photo

COLOURS = {"things": (255, 0, 0), "stuff": (255, 255, 255)}

PHOTOS = 5


@pytest.fixture
def trans10k(tmp_path: Path) -> Path:
    """The test split of a copy: three easy photos and two hard ones, both with a `0.jpg`."""
    root = tmp_path / "trans10k"
    for difficulty, count in (("easy", 3), ("hard", 2)):
        folder = root / "test" / difficulty
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        for index in range(count):
            size = (40 + 10 * index, 72)
            write_photo(folder / "images" / f"{index}.jpg", size, seed=index + 5 * count)
            mask = np.zeros((*size, 3), np.uint8)
            mask[5:25, 8:30] = COLOURS["things"]
            mask[10:30, 40 : 50 + 5 * index] = COLOURS["stuff"]
            Image.fromarray(mask).save(folder / "masks" / f"{index}_mask.png")
    return root


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())


def test_easy_hard_and_mix_in_one_run(
    model: Path, trans10k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = [str(trans10k), f"--model=file:{model}", f"--out={out}", "--grid=64", "--pictures"]
    assert main(flags) == 0
    found = results(out)
    image = found["image"]
    assert [image[part]["images"] for part in ("easy", "hard", "mix")] == [3, 2, PHOTOS]
    # Averages of photos: the shares of easy and hard give mix.
    for measure in ("iou", "recall", "mse"):
        mix = 0.6 * image["easy"][measure] + 0.4 * image["hard"][measure]
        assert image["mix"][measure] == pytest.approx(mix)
    # What the pictures show is what is measured.
    ious, recalls, errors = [], [], []
    for difficulty, name in [("easy", n) for n in "012"] + [("hard", n) for n in "01"]:
        photo = out / "photos" / difficulty / name
        mask, true = (read(Path(f"{photo}_{part}.png")) > 0 for part in ("maskq", "maskgt"))
        ious.append((mask & true).sum() / (mask | true).sum())
        recalls.append((mask & true).sum() / true.sum())
        soft = read(Path(f"{photo}_pred.png")) / 255
        errors.append(((soft - true) ** 2).mean())
        assert mask.shape == (64, 64) and read(Path(f"{photo}_img.png")).shape == (64, 64, 3)
        assert read(Path(f"{photo}_overlay.jpg")).shape == (40 + 10 * int(name), 72, 3)
    assert image["mix"]["iou"] == pytest.approx(np.mean(ious))
    assert image["mix"]["recall"] == pytest.approx(np.mean(recalls))
    # The published MSE counts the three channels, whose spread the pictures leave out.
    assert image["mix"]["mse"] >= np.mean(errors) - 1e-3
    assert set(found["translab"]["hard"]) == {"miou", "iou_1", "acc", "mae", "mber"}
    rows = list(csv.DictReader((out / "photos.csv").open()))
    assert [float(row["iou"]) for row in rows] == pytest.approx(ious)
    table = (out / "table.md").read_text()
    assert table.splitlines()[0] in capsys.readouterr().out
    assert f"| mix | 5 | {np.mean(ious):.4f} |" in table
    columns = next(csv.DictReader((out / "table.csv").open()))
    assert columns["difficulty"] == "easy" and float(columns["iou"]) == image["easy"]["iou"]
    assert read(out / "best.jpg").shape == read(out / "worst.jpg").shape
    assert {path.name for path in out.iterdir()} == {
        "results.json", "table.md", "table.csv", "photos.csv", "best.jpg", "worst.jpg", "photos"
    }  # fmt: skip


def test_translab_sums_areas_of_512_px_squares(model: Path, trans10k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # On squares of 512 px both protocols see the same masks.
    flags = [f"--model=file:{model}", f"--out={out}", "--grid=512", "--pictures"]
    assert main([str(trans10k), *flags]) == 0
    whole = TransLabScores(2)
    for pair in find_pairs(trans10k, "test"):
        found = read(out / "photos" / str(pair.difficulty) / f"{pair.name}_maskq.png") > 0
        true = (read_mask(pair.mask, pair.version) > 0).astype(np.uint8)
        square = cv2.resize(true, (512, 512), interpolation=cv2.INTER_NEAREST)
        whole.update(torch.from_numpy(found), torch.from_numpy(np.asarray(square)))
    measured = results(out)
    assert measured["translab"]["mix"] == pytest.approx(whole.compute())
    areas = measured["image"]["mix"]["dataset_iou"]
    assert areas == pytest.approx(measured["translab"]["mix"]["miou"])


def test_each_photo_counts_once_on_any_number_of_processes(
    model: Path, trans10k: Path, tmp_path: Path, warm: Warm
) -> None:
    flags = [str(trans10k), f"--model=file:{model}"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*flags, f"--out={alone}"]) == 0
    done = warm.run(*flags, f"--out={together}", program="seethrough.evaluate.__main__", world=2)
    assert done.codes == [0, 0], done.err
    for path in alone.rglob("*.*"):
        assert path.read_bytes() == (together / path.relative_to(alone)).read_bytes()
    assert results(together)["image"]["mix"]["images"] == PHOTOS


def test_what_is_done_is_not_measured_again(
    model: Path, trans10k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = [str(trans10k), f"--model=file:{model}", f"--out={out}"]
    assert main([*flags, "--difficulty=hard"]) == 0
    assert list(results(out)["image"]) == ["hard", "mix"]
    whole = (out / "photos.csv").read_text()
    assert main(flags) == 0
    assert "2 of 5 are done already" in capsys.readouterr().out
    assert results(out)["image"]["mix"]["images"] == PHOTOS
    assert whole.splitlines()[1:] == (out / "photos.csv").read_text().splitlines()[4:]
    # Another mask of a photo is another truth.
    mask = trans10k / "test" / "easy" / "masks" / "0_mask.png"
    Image.fromarray(np.full((40, 72, 3), 255, np.uint8)).save(mask)
    assert main(flags) == 0
    assert "4 of 5 are done already" in capsys.readouterr().out


def test_photos_that_fail_are_in_no_mean_and_told(
    model: Path, trans10k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    turned = trans10k / "test" / "easy" / "images" / "0.jpg"
    Image.open(turned).rotate(90, expand=True).save(turned)
    assert main([str(trans10k), f"--model=file:{model}", f"--out={out}"]) == 1
    message = f"{turned} has 40 x 72 px, but its mask"
    assert message in capsys.readouterr().err
    found = results(out)
    assert found["image"]["mix"]["images"] == PHOTOS - 1
    assert len(found["failed"]) == 1 and message in found["failed"][0]


def test_extended_attributes_as_published(model: Path, trans10k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = [str(trans10k), f"--model=file:{model}", f"--out={out}", "--pictures", "--xattr"]
    assert main(flags) == 0
    scores = json.loads((out / "photos" / "hard" / "1.json").read_text())["scores"]["image"]
    prediction = out / "photos" / "hard" / "1_pred.png"
    for name in ("iou", "recall", "mse"):
        assert float(os.getxattr(prediction, f"user.{name}")) == scores[name]


def test_a_file_system_without_attributes_is_told_before_anything_is_computed(
    model: Path, trans10k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    flags = [str(trans10k), f"--model=file:{model}", f"--out={tmp_path}", "--pictures", "--xattr"]
    assert main(flags) == 2
    assert "keeps no extended attributes (Operation not supported): leave out --xattr" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "photos").exists()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("no folder", "no such folder of Trans10K"),
        ("empty split", "no photo (images/*.jpg) in this split"),
        ("no mask", "its mask"),
        ("resolution", "resolution=40 is no multiple of 16"),
    ],
)
def test_what_can_t_begin_ends_with_code_2(
    problem: str,
    message: str,
    model: Path,
    trans10k: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, more = trans10k, []
    if problem == "no folder":
        root = tmp_path / "nowhere"
    elif problem == "empty split":
        more = ["--split=validation"]
    elif problem == "no mask":
        (trans10k / "test" / "hard" / "masks" / "0_mask.png").unlink()
    else:
        more = ["--resolution=40"]
    flags = [f"--model=file:{model}", f"--out={tmp_path / 'out'}", *more]
    assert main([str(root), *flags]) == 2
    assert message in capsys.readouterr().err
