"""The command: what is found, skipped, refused and told."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.characters.form import list_characters
from seethrough.decompose.lock import locked
from seethrough.ingest.__main__ import main
from seethrough.ingest.compare import agreement
from tests.ingest.command import block, ellipse, ingest


@pytest.fixture
def art(tmp_path: Path) -> Path:
    """Two folders of PNGs that say what they are."""
    for name, color in (("one", (200, 0, 0)), ("two", (0, 200, 0))):
        folder = tmp_path / "art" / "deep" / name
        folder.mkdir(parents=True)
        Image.fromarray(ellipse(color)).save(folder / "a.png")
        (folder / "layers.json").write_text('{"layers": [{"file": "a.png"}]}')
    return tmp_path / "art"


def test_a_rerun_skips_what_is_there_and_keeps_what_lies_beside_it(
    art: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out"
    assert ingest(out, art) == 0
    first, second = list_characters(out)
    (first / "labels.json").write_text("{}")
    shutil.rmtree(second)
    (out / ".partial-left by a killed run").mkdir()
    capsys.readouterr()
    assert ingest(out, art) == 0
    assert "made 1, there already 1, failed 0" in capsys.readouterr().out
    assert list_characters(out) == [first, second]
    assert (first / "labels.json").exists()
    assert not list(out.glob(".partial-*"))


def test_the_same_source_twice_is_one_character(art: Path, tmp_path: Path, capsys) -> None:
    one = art / "deep" / "one"
    shutil.copytree(one, art / "copy")
    assert ingest(tmp_path / "out", art, one) == 0
    told = capsys.readouterr().out
    assert "made 2, there already 1, failed 0" in told
    assert "of the same content under another name" in told


def test_plan_lists_and_writes_nothing(art: Path, tmp_path: Path, capsys) -> None:
    assert ingest(tmp_path / "out", art, tmp_path / "none", "--plan") == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"pngs       {art / 'deep' / name}" for name in ("one", "two")]
    assert "none: no such file or folder" in told.err
    assert not (tmp_path / "out").exists()


def test_wrong_command_lines(capsys) -> None:
    assert main([]) == 2
    assert main(["x", "--licens=MIT"]) == 2
    assert "licence" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "CubismPartExtr" in capsys.readouterr().out


def test_one_command_at_a_time(art: Path, tmp_path: Path, capsys) -> None:
    with locked(tmp_path / "out"):
        assert ingest(tmp_path / "out", art) == 2
    assert "is writing there" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_and_loses_nothing(
    art: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert ingest(out, art / "deep" / "one") == 0
    made = list_characters(out)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert ingest(out, art) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert list_characters(out) == made and not list(out.glob(".partial-*"))
    monkeypatch.undo()
    assert ingest(out, art) == 0
    assert len(list_characters(out)) == 2


def test_agreement_counts_alpha_unless_a_picture_is_opaque() -> None:
    white = block((255, 255, 255))
    faint = white.copy()
    faint[..., 3] = 155
    assert agreement(white, white).largest == 0
    assert agreement(white, faint).largest == 0, "on white, as an opaque picture may be"
    fainter = faint.copy()
    fainter[..., 3] = 55
    assert agreement(faint, fainter).largest == pytest.approx(100)
    assert agreement(faint, fainter).psnr == pytest.approx(20 * np.log10(2.55) + 3.01, abs=0.01)
