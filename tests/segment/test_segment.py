"""Photos in, masks out, as a user starts it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.segment.__main__ import main
from tests.processes import Warm
from tests.segment.conftest import write_photo
from tests.tasks.small_sd3 import SIDE

PROGRAM = "seethrough.segment.__main__"

ENDINGS = {"_pred.png", "_maskq.png", "_overlay.jpg", ".json"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_what_lies_there_for_a_photo(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(photos), f"--model=file:{model}", f"--out={out}"]) == 0
    names = {f"{name}{ending}" for name in "abcde" for ending in ENDINGS}
    assert {path.name for path in out.iterdir()} == names
    photo = read(photos / "b.jpg")
    soft, mask = read(out / "b_pred.png"), read(out / "b_maskq.png")
    assert soft.shape == mask.shape == photo.shape[:2] and soft.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    # A level is rounded; whether the value is above a half is decided before.
    assert (mask[soft > 128] == 255).all() and (mask[soft < 127] == 0).all()
    assert read(out / "b_overlay.jpg").shape == photo.shape
    record = json.loads((out / "b.json").read_text())
    assert record["transparent"] == pytest.approx((mask == 255).mean())
    said = capsys.readouterr().out
    assert f"model: {model}/transformer, {SIDE} px; float32 on cpu" in said
    assert f"5 of 5: {out}/e_maskq.png: " in said and "% transparent" in said


def test_the_photo_alone_decides_unless_latents_are_drawn(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    def prediction(name: str, *flags: str) -> bytes:
        out = tmp_path / name
        assert main([str(photos / "a.jpg"), f"--model=file:{model}", f"--out={out}", *flags]) == 0
        return (out / "a_pred.png").read_bytes()

    first = prediction("first")
    assert prediction("other seed", "--seed=3") == first
    drawn = prediction("drawn", "--posterior=sample")
    assert drawn != first
    assert prediction("drawn again", "--posterior=sample") == drawn
    assert prediction("drawn otherwise", "--posterior=sample", "--seed=1") != drawn


def test_what_was_interrupted_goes_on_where_it_stopped(
    model: Path, photos: Path, tmp_path: Path, warm: Warm
) -> None:
    for index in range(30):
        write_photo(photos / f"x{index:02}.jpg", (60, 60), seed=index)
    flags = [str(photos), f"--model=file:{model}"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    killed = warm.start(*flags, f"--out={out}", program=PROGRAM)
    killed.until((out / "a.json").exists)
    killed.kill()
    # One that was being written has a name of its own.
    done = sorted(path for path in out.glob("*.json") if not path.name.startswith("."))
    assert 1 <= len(done) < 35
    before = {path: path.stat().st_mtime_ns for path in done}
    assert main([*flags, f"--out={out}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == before
    assert main([*flags, f"--out={whole}"]) == 0
    assert contents(out) == contents(whole)
    # A file that is gone, or another resolution, makes a photo anew.
    (out / "a_maskq.png").unlink()
    assert main([*flags, f"--out={out}"]) == 0
    assert contents(out) == contents(whole)
    assert main([*flags, f"--out={out}", "--resolution=48"]) == 0
    assert contents(out) != contents(whole)


def test_several_processes_share_the_photos(
    model: Path, photos: Path, tmp_path: Path, warm: Warm
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    flags = [str(photos), f"--model=file:{model}"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main([*flags, f"--out={alone}"]) == 1
    done = warm.run(*flags, f"--out={together}", program=PROGRAM, world=2)
    # What failed is told once at the end, by the main process.
    assert done.codes == [1, 1]
    assert contents(together) == contents(alone)
    assert done.out.count("% transparent") == 5 and done.err.count("failed: 1\n") == 1


def test_bad_photos_are_told_and_the_rest_goes_on(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(photos / "b.jpg", 300)
    (photos / "c.jpg").write_text("no picture")
    out = tmp_path / "out"
    flags = [str(photos), f"--model=file:{model}", f"--out={out}", "--batch=4"]
    assert main(flags) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert f"failed: 2\n  {photos / 'b.jpg'}: broken or truncated image" in said
    assert f"{photos / 'c.jpg'}: broken image, or none of a known format" in said
    assert {path.name[0] for path in out.iterdir()} == {"a", "d", "e"}
    for name in "bc":
        shutil.copy(photos / "a.jpg", photos / f"{name}.jpg")
    assert main(flags) == 0
    assert "3 of 5 are done already" in capsys.readouterr().out


def test_photos_of_every_kind(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = Image.open(photos / "a.jpg")
    for name in ("grey.1", "grey.2"):
        photo.convert("L").save(photos / f"{name}.png")
    photo.convert("CMYK").save(photos / "print.jpg")
    photo.resize((1, 1)).save(photos / "dot.png")
    turned = photo.getexif()
    turned[0x0112] = 6  # to be turned by 90 degrees
    photo.save(photos / "turned.jpg", exif=turned)
    out = tmp_path / "out"
    assert main([str(photos), f"--model=file:{model}", f"--out={out}"]) == 0
    assert "(CMYK: converted to RGB without its colour profile)" in capsys.readouterr().out
    for name in ("grey.1", "grey.2"):
        assert read(out / f"{name}_pred.png").shape == read(photos / "a.jpg").shape[:2]
    assert read(out / "turned_pred.png").shape == read(photos / "a.jpg").shape[1::-1]
    assert read(out / "dot_pred.png").shape == (1, 1)


def test_a_result_that_can_t_be_written_is_told(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "a_pred.png").mkdir(parents=True)
    assert main([str(photos), f"--model=file:{model}", f"--out={out}"]) == 1
    assert f"failed: 1\n  {photos}/a.jpg: {out}/a_pred.png: can't be written" in (
        capsys.readouterr().err
    )
    assert not (out / "a.json").exists() and (out / "e.json").exists()
