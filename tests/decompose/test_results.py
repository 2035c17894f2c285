"""Layers to parts, what is told of an image, and when its results count."""

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seethrough.decompose.images import Image
from seethrough.decompose.progress import Progress
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


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_process_killed_between_two_files_leaves_no_result_that_counts(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, count()

    def killed(*paths: Path) -> None:
        if next(calls) == moment:
            raise KeyboardInterrupt
        replace(*paths)

    other = {**INPUTS, "seed": 2}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        write(tmp_path / "one", other)
    assert not is_done(tmp_path / "one", other)
    write(tmp_path / "one", other)
    assert is_done(tmp_path / "one", other) and not (tmp_path / "one" / ".partial").exists()


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
        "in/one.png: out of memory: take a smaller --resolution, or --precision=bf16",
        "in/one.png: KeyError: 'surprise'",
    ]
    assert progress.finished == 4
