"""Pictures in, layered PSDs out, as a user starts it."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from safetensors.torch import load_file, save_file

from seethrough.decompose import lock
from seethrough.decompose.__main__ import main
from seethrough.inference import viewer
from tests.decompose.models import RESOLUTION
from tests.processes import Warm

PROGRAM = "seethrough.decompose.__main__"


def flags(model: Path, out: Path) -> list[str]:
    return [f"--layers=file:{model}", f"--resolution={RESOLUTION}", "--steps=2", f"--out={out}"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != lock.FILE
    }


def results(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if path.name != lock.FILE}


def test_a_folder_that_was_interrupted_goes_on_where_it_stopped(
    layer_model: Path, pictures: Path, tmp_path: Path, warm: Warm
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    for index in range(4):
        shutil.copy(pictures / "two.png", pictures / f"u{index:02}.png")
    command = (str(pictures), *flags(layer_model, out))
    env: dict[str, str | None] = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    killed = warm.start(*command, program=PROGRAM, env=env)
    killed.until((out / "one" / "record.json").exists)
    killed.kill()
    done = {path.parent for path in out.glob("*/record.json")}
    assert 1 <= len(done) < 6
    before = {path: path.stat().st_mtime_ns for folder in done for path in folder.iterdir()}

    again = warm.run(*command, program=PROGRAM, env=env)
    assert again.code == 0, again.err
    assert f"{len(done)} of 6 are done already" in again.out
    assert f"1 of {6 - len(done)}: " in again.out and " left\n" in again.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # The same bytes as without an interruption; nothing of the killed process is left.
    assert main([str(pictures), *flags(layer_model, whole)]) == 0
    assert contents(out) == contents(whole)


def test_results_of_an_image(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(pictures / "one.png"), *flags(layer_model, tmp_path / "out")]
    assert main([*arguments, "--pngs"]) == 0
    folder = tmp_path / "out" / "one"
    said = capsys.readouterr().out
    assert f"1 of 1: {folder}/one.psd: " in said
    assert "no model, so parts lie in a fixed drawing order; --depth gives one" in said
    layers = {path.stem for path in (folder / "layers").iterdir()}
    document = PSDImage.open(folder / "one.psd")
    assert document.size == Image.open(pictures / "one.png").size
    names = [layer.name for layer in document]
    assert names and set(names) <= layers
    assert {path.name for path in folder.iterdir()} == {
        "one.psd", "layers", viewer.FILE_NAME, "record.json"
    }  # fmt: skip
    # Other options make it anew, and what they don't give is gone; the user's own file stays.
    (folder / "sketch.psd").write_text("mine")
    assert main([*arguments, "--seed=7"]) == 0
    assert not list((folder / "layers").iterdir())
    assert (folder / "sketch.psd").read_text() == "mine"
    record = json.loads((folder / "record.json").read_text())
    assert record["inputs"]["seed"] == 7
    assert record["outputs"] == [viewer.FILE_NAME, "one.psd"]


def test_the_seed_and_the_picture_decide_the_bytes(
    layer_model: Path, pictures: Path, tmp_path: Path
) -> None:
    def psd(image: str, name: str, *more: str) -> bytes:
        path = pictures / f"{image}.png"
        assert main([str(path), *flags(layer_model, tmp_path / name), *more]) == 0
        return (tmp_path / name / image / f"{image}.psd").read_bytes()

    first = psd("one", "a")
    assert psd("one", "b") == first
    assert psd("one", "c", "--seed=43") != first
    shutil.copy(pictures / "one.png", pictures / "copy.png")
    assert psd("copy", "d") == first


def bad_pictures(folder: Path) -> dict[str, str]:
    """Write pictures that can't be decomposed; returns what is said of each."""
    rgba = np.full((40, 30, 4), 200, np.uint8)
    Image.fromarray(rgba).save(folder / "broken.png")
    os.truncate(folder / "broken.png", 60)
    (folder / "notes.png").write_text("no picture")
    Image.fromarray(rgba * np.array([1, 1, 1, 0], np.uint8)).save(folder / "clear.png")
    Image.new("1", (10_000, 9_000)).save(folder / "huge.png")
    return {
        "broken.png": "broken or truncated",
        "notes.png": "broken image, or none of a known format",
        "clear.png": "transparent everywhere: nothing to decompose",
        "huge.png": "10000 x 9000 pixels, at most 89 million are read: make it smaller",
    }


def test_bad_pictures_are_told_at_once_and_again_at_the_end_and_the_rest_goes_on(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = bad_pictures(pictures)
    out = tmp_path / "out"
    assert main([str(pictures), *flags(layer_model, out)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    told, summary = said.split(f"failed: {len(reasons)}\n")
    for name, reason in reasons.items():
        assert f": failed: {pictures / name}: {reason}" in told
        assert f"  {pictures / name}: {reason}" in summary
    assert results(out) == {"one", "two"}
    # Mended, they alone are made.
    for name in reasons:
        shutil.copy(pictures / "one.png", pictures / name)
    assert main([str(pictures), *flags(layer_model, out)]) == 0
    assert "2 of 6 are done already" in capsys.readouterr().out


def test_pictures_of_every_kind(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Image.open(pictures / "one.png")
    rgb = page.convert("RGB")
    rgb.convert("CMYK").save(pictures / "print.jpg")
    page.save(pictures / "moving.png", save_all=True, append_images=[page.rotate(180)])
    rgb.quantize(16).save(pictures / "palette.png")
    deep = np.asarray(rgb).astype(np.uint16)[..., ::-1] * 257
    cv2.imwrite(str(pictures / "deep.png"), deep)
    rgb.resize((200, 9)).save(pictures / "wide.bmp")
    rgb.resize((1, 1)).save(pictures / "dot.webp")
    rgb.save(pictures / "scan.tif")
    out = tmp_path / "out"
    assert main([str(pictures), *flags(layer_model, out)]) == 0
    said = capsys.readouterr().out
    assert "print.psd: " in said and "(CMYK: converted to RGB without its colour profile)" in said
    assert "(it holds 2 pictures: the first is taken)" in said
    assert f"left out: {pictures / 'scan.tif'}" in said
    assert results(out) == {
        "one", "two", "print", "moving", "palette", "deep", "wide", "dot"
    }  # fmt: skip
    assert main([str(pictures / "scan.tif"), *flags(layer_model, out)]) == 0


def test_a_result_that_can_t_be_written_leaves_the_earlier_one(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(pictures), *flags(layer_model, out)]) == 0
    before = contents(out / "one")
    # A file where the folder for new files would be.
    (out / "one" / ".partial").write_text("in the way")
    assert main([str(pictures), *flags(layer_model, out), "--seed=1"]) == 1
    said = capsys.readouterr()
    assert f"failed: {pictures / 'one.png'}: " in said.err and ".partial" in said.err
    assert f"2 of 2: {out / 'two' / 'two.psd'}" in said.out
    (out / "one" / ".partial").unlink()
    assert contents(out / "one") == before


def test_a_picture_without_a_character_is_told_and_earlier_results_stay(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "out", tmp_path / "model"
    image = str(pictures / "one.png")
    assert main([image, *flags(layer_model, out)]) == 0
    before = contents(out)
    # A model that sees nothing anywhere: no pixel that it decodes has alpha.
    shutil.copytree(layer_model, model)
    weights = model / "trans_vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state["decoder.model.conv_out.weight"][:] = 0
    state["decoder.model.conv_out.bias"][0] = -1
    save_file(state, weights, metadata={"format": "pt"})
    assert main([image, *flags(model, out)]) == 1
    said = capsys.readouterr().err
    assert f"{image}: no layer found: the model sees no character in it" in said
    assert contents(out) == before


def test_an_interruption_is_told_and_the_same_command_goes_on(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What was started in the background ignores interruptions.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    out = tmp_path / "out"
    for index in range(4):
        shutil.copy(pictures / "two.png", pictures / f"u{index}.png")
    arguments = [str(pictures), *flags(layer_model, out)]

    def press() -> None:
        while not (out / "one" / "record.json").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    presses = threading.Thread(target=press)
    presses.start()
    try:
        code = main(arguments)
        presses.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert "interrupted: the same command goes on from here" in capsys.readouterr().err
    done = len(list(out.glob("*/record.json")))
    assert 1 <= done < 6 and not list(out.glob("*/.partial"))
    assert main(arguments) == 0
    assert f"{done} of 6 are done already" in capsys.readouterr().out


@pytest.mark.parametrize("problem", ["absent", "empty", "twins", "resolution", "out"])
def test_what_can_t_begin_ends_with_code_2(
    problem: str,
    layer_model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    shutil.copy(pictures / "one.png", pictures / "one.bmp")
    one = str(pictures / "one.png")
    usual = flags(layer_model, tmp_path / "out")
    arguments, message = {
        "absent": ([str(tmp_path / "no.png"), *usual], "no.png: no such picture or folder"),
        "empty": ([str(empty), *usual], f"{empty}: the directory has no image"),
        "twins": ([str(pictures), *usual], "its results would have the name 'one', as those of"),
        "resolution": (
            [one, usual[0], usual[3], "--resolution=30"],
            "resolution=30 is no multiple of 8, the pixels per latent: take 24",
        ),
        "out": ([one, *flags(layer_model, file / "out")], f"--out={file}/out: no results can be"),
    }[problem]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
