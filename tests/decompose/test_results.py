"""Layers to parts, what is told of an image, and when its results count."""

import contextlib
import fcntl
import json
import os
import re
import resource
import struct
import sys
import termios
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from seethrough.decompose.images import Image
from seethrough.decompose.progress import Progress, bar
from seethrough.decompose.results import assemble, is_done, write_results
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, drawing_order
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.head_crop import Square

SIDE = 20
INPUTS = {"picture": "abc", "seed": 1}


def layer(left: int, right: int, alpha: int = 255) -> Image8:
    """A bar from top to bottom."""
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[:, left:right] = (90, 120, 30, alpha)
    return pixels


def decomposition(**layers: Image8) -> Decomposition:
    named = {tag.replace("_", " "): pixels for tag, pixels in layers.items()}
    return Decomposition(
        page=layer(0, SIDE), layers=named, canvas=Square(SIDE, SIDE, SIDE), note="a note"
    )


CHARACTER = decomposition(
    front_hair=layer(0, 9), ears=layer(2, 4), face=layer(3, 8), tail=layer(0, 20), wings=layer(0, 0)
)


def test_without_depths_parts_lie_in_the_drawing_order_and_with_them_by_depth() -> None:
    tags = [part.tag for part in assemble(CHARACTER, None, split=False)]
    assert tags == drawing_order(["front hair", "ears", "face", "tail"])
    depths = {"hair": 0.5, "ears": 0.2, "face": 0.4, "tail": 0.1}
    planes = {tag: np.full((SIDE, SIDE), depth, np.float32) for tag, depth in depths.items()}
    tags = [part.tag for part in assemble(CHARACTER, planes, split=False)]
    assert tags == ["front hair", "ears", "face", "tail"]


def test_pairs_are_split_where_they_lie_in_the_order() -> None:
    pair = np.maximum(layer(1, 4), layer(14, 18))
    parts = assemble(decomposition(face=layer(0, 20), ears=pair), None, split=True)
    assert [part.tag for part in parts] == ["ears", "ears", "face"]
    assert {part.name for part in parts} == {"ears-l", "ears-r", "face"}


def test_a_page_without_a_character_is_told() -> None:
    faint = decomposition(face=layer(0, 20, alpha=9), topwear=layer(0, 0))
    with pytest.raises(InputError, match="no layer found: the model sees no character"):
        assemble(faint, None, split=False)


def write(folder: Path, inputs: dict[str, Any] = INPUTS) -> Path:
    parts = assemble(CHARACTER, None, split=False)
    return write_results(
        folder, "one", CHARACTER, parts, inputs, picture=None, with_depth=False, pngs=False
    )


def test_results_count_while_they_are_all_there_and_the_inputs_are_the_same(
    tmp_path: Path,
) -> None:
    assert not is_done(tmp_path, INPUTS)
    psd = write(tmp_path)
    assert psd == tmp_path / "one.psd" and is_done(tmp_path, INPUTS)
    assert json.loads((tmp_path / "record.json").read_text())["note"] == "a note"
    assert not is_done(tmp_path, {**INPUTS, "seed": 2})
    psd.unlink()
    assert not is_done(tmp_path, INPUTS)


@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_a_process_killed_between_two_files_leaves_no_result_that_counts(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, count()

    def killed(*paths: Path) -> None:
        if next(calls) == moment:
            raise KeyboardInterrupt
        replace(*paths)

    other = {**INPUTS, "seed": 2}
    write(tmp_path / "one")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        write(tmp_path / "one", other)
    assert not is_done(tmp_path / "one", other)
    # The earlier results count while all of them are there.
    assert is_done(tmp_path / "one", INPUTS) == (moment == 0)
    write(tmp_path / "one", other)
    assert is_done(tmp_path / "one", other) and not (tmp_path / "one" / ".partial").exists()


def test_the_page_links_the_files_beside_it(tmp_path: Path) -> None:
    parts = assemble(CHARACTER, None, split=False)
    for with_depth, expected in ((False, [".psd"]), (True, [".psd", "_depth.psd", ".psd.json"])):
        folder = tmp_path / str(with_depth)
        write_results(
            folder, "a: 100%", CHARACTER, parts, INPUTS,
            picture=None, with_depth=with_depth, pngs=False,
        )  # fmt: skip
        html = (folder / "index.html").read_text(encoding="utf-8")
        links = [unquote(link) for link in re.findall(r'<a href="([^"]+)"', html)]
        assert links == [f"./a: 100%{ending}" for ending in expected]
        assert all((folder / link).is_file() for link in links)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond a few bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_the_earlier_results(tmp_path: Path) -> None:
    write(tmp_path / "one")
    before = contents(tmp_path)
    with full_disk(), pytest.raises(InputError, match=r"can't be written .*make room"):
        write(tmp_path / "one", {**INPUTS, "seed": 2})
    assert contents(tmp_path) == before
    assert is_done(tmp_path / "one", INPUTS)


@pytest.mark.parametrize("name", ["one.psd", "index.html"])
def test_a_folder_in_a_file_s_place_is_named_and_nothing_is_replaced(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    write(folder)
    (folder / name).unlink()
    (folder / name / "inner").mkdir(parents=True)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"{name}: a folder lies where a file is to be"):
        write(folder, {**INPUTS, "seed": 2})
    assert contents(tmp_path) == before


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("mine")
    with pytest.raises(InputError, match=f"{tmp_path}/one: its files can't be written .*--out"):
        write(tmp_path / "one")
    assert (tmp_path / "one").read_text() == "mine"


def test_a_picture_beyond_the_format_is_told_what_else_there_is(tmp_path: Path) -> None:
    wide = np.zeros((1, 30_001, 4), np.uint8)
    parts = assemble(CHARACTER, None, split=False)
    with pytest.raises(InputError, match="the picture has 30001 x 1: take --size=canvas"):
        write_results(
            tmp_path, "one", CHARACTER, parts, INPUTS, picture=wide, with_depth=False, pngs=False
        )
    assert not contents(tmp_path)


def test_a_terminal_shows_how_far_an_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, inner = os.openpty()
    os.set_blocking(terminal, False)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(inner, "w") as shown:
        monkeypatch.setattr(sys, "stderr", shown)
        with bar("1 of 2: one", 4) as tell:
            for _ in range(3):
                time.sleep(0.15)
                tell("denoising", 1)
            said = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "1 of 2: one:   0%|" in said and " 25%|" in said and "<00:00, denoising" in said


def test_elsewhere_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with bar("1 of 2: one", 4) as tell:
        tell("denoising", 4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outputs": []}', '{"inputs": {}}'])
def test_a_broken_record_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    assert not is_done(tmp_path, INPUTS)
    write(tmp_path)
    assert is_done(tmp_path, INPUTS)


@pytest.mark.parametrize("name", ["../precious.txt", "{}/precious.txt"])
def test_a_record_names_nothing_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    precious, folder = tmp_path / "precious.txt", tmp_path / "one"
    precious.write_text("mine")
    folder.mkdir()
    record = {"inputs": INPUTS, "outputs": [name.format(tmp_path)]}
    (folder / "record.json").write_text(json.dumps(record))
    assert not is_done(folder, INPUTS)
    write(folder)
    assert precious.exists()


def test_errors_become_lines_and_only_those_without_a_known_reason_are_traced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(4)
    image = Image(Path("in/one.png"), "one")
    for error in (
        InputError("in/one.png: broken"),
        OSError("disk full"),
        torch.OutOfMemoryError("tried to allocate"),
    ):
        with progress.image(image):
            raise error
    assert "Traceback" not in capsys.readouterr().err
    with progress.image(image):
        raise KeyError("surprise")
    assert "Traceback" in capsys.readouterr().err
    assert progress.failures == [
        "in/one.png: broken",
        "in/one.png: OSError: disk full",
        "in/one.png: out of memory: --plan tells what needs less; or take a smaller --resolution",
        "in/one.png: KeyError: 'surprise'",
    ]
    assert progress.finished == 4
