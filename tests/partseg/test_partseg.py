"""Pictures in, masks of body parts out, as a user starts it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seethrough.data.part_masks import read_part_masks
from seethrough.data.tags import TAGS_V2
from seethrough.models.semantic_sam_weights import save_semantic_sam
from seethrough.partseg.__main__ import main
from seethrough.partseg.settings import parse
from seethrough.recipe import RecipeError
from tests.models.small_sam import small_model

Say = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file, of 19 classes."""
    path = tmp_path_factory.mktemp("models") / "checkpoint-18000.pt"
    torch.save(small_model(19).state_dict(), path)
    return path


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("a.png", (40, 60, 3)), ("b.jpg", (50, 30, 3)), ("c.webp", (20, 20, 4))):
        Image.fromarray(random.integers(0, 256, size, np.uint8)).save(folder / name)
    return folder


def test_what_lies_there_for_a_page(model: Path, pages: Path, tmp_path: Path, capsys: Say):
    out = tmp_path / "out"
    assert main([str(pages), f"--model=file:{model}", f"--out={out}"]) == 0
    endings = ("_masks.json", "_parts.png", ".json")
    names = {f"{page}{ending}" for page in ("a.png", "b.jpg", "c.webp") for ending in endings}
    assert {path.name for path in out.iterdir()} == names
    masks = json.loads((out / "a.png_masks.json").read_text())
    assert [entry["tag"] for entry in masks] == list(TAGS_V2)
    assert {tuple(entry["size"]) for entry in masks} == {(40, 60)}
    # What is written is what is trained on.
    (out / "a.json").write_text(json.dumps(masks))
    found = read_part_masks(out / "a.png", TAGS_V2, (40, 60)).masks
    shares = json.loads((out / "a.png.json").read_text())["shares"]
    assert shares == pytest.approx({t: m.mean() for t, m in zip(TAGS_V2, found, strict=True)})
    picture = Image.open(out / "a.png_parts.png")
    assert picture.height >= 40 and picture.width > 60
    said = capsys.readouterr().out
    assert f"model: {model}; float32 on cpu" in said
    assert "3 of 3: " in said and "of 19 parts found" in said


def test_what_is_done_is_skipped_and_what_fails_is_told(
    model: Path, pages: Path, tmp_path: Path, capsys: Say
) -> None:
    command = [str(pages), f"--model=file:{model}", f"--out={tmp_path / 'out'}"]
    (pages / "d.png").write_bytes(b"no picture")
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "failed: 1" in captured.err and "d.png: broken image" in captured.err
    before = (tmp_path / "out/a.png.json").stat().st_mtime_ns
    (pages / "d.png").unlink()
    (tmp_path / "out/b.jpg_masks.json").unlink()
    assert main(command) == 0
    assert "2 of 3 are done already" in capsys.readouterr().out
    assert (tmp_path / "out/a.png.json").stat().st_mtime_ns == before
    assert (tmp_path / "out/b.jpg_masks.json").is_file()


def test_models_that_are_none_are_refused(
    model: Path, pages: Path, tmp_path: Path, capsys: Say
) -> None:
    def refused(flag: str, said: str) -> None:
        assert main([str(pages), flag, f"--out={tmp_path / 'out'}"]) == 2
        assert said in capsys.readouterr().err

    folder = tmp_path / "models"
    folder.mkdir()
    refused(f"--model=file:{folder}", "one file of weights is expected, found none")
    refused(f"--model=file:{tmp_path / 'absent'}", "no such file or folder")
    refused(f"--from={folder}", "one finished stage with a model of parts is expected, found none")
    torch.save({"weights": Path("/etc")}, folder / "evil.pt")
    refused(f"--model=file:{folder}", "it is refused")
    (folder / "more.pt").write_bytes(model.read_bytes())
    refused(f"--model=file:{folder}", "found evil.pt, more.pt")
    save_semantic_sam(small_model(2), ("face",), folder / "ours")
    refused(f"--model=file:{folder / 'ours'}", "names 1 tags, but the model has 2 classes")


def test_flags(capsys: Say) -> None:
    command = parse(["a.png", "--model=hub:24yearsold/l2d_sam_iter2", "--precision=fp32"])
    assert (command.images, command.out, command.run) == (("a.png",), Path("parts"), None)
    for words, said in (
        (["--model=file:a.pt"], "no page given"),
        (["a.png"], "no model given; choose one"),
        (["a.png", "--model=file:a.pt", "--from=runs/a"], "give one"),
        (["a.png", "--modle=file:a.pt"], "--modle: no such flag"),
    ):
        with pytest.raises(RecipeError, match=said):
            parse(words)
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a.png_masks.json", "--precision=auto", "--from=FOLDER"))
