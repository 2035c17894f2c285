"""Live2D models are read in a process of their own, once their terms are accepted."""

import ctypes.util
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seethrough.characters.form import list_characters, read_character
from seethrough.errors import InputError
from seethrough.ingest import live2d, live2d_core
from seethrough.ingest.live2d_core import ask, posed_values
from tests.ingest.command import ingest
from tests.ingest.live2d_answer import HEIGHT, WIDTH, Rectangle, answer

ACCEPT = "--accept_live2d_licence"

needs_core = pytest.mark.skipif(
    importlib.util.find_spec("live2d") is None or not ctypes.util.find_library("Xext"),
    reason="the extra [live2d], or libxext6 that it needs, isn't installed",
)


@pytest.fixture
def moc(tmp_path: Path) -> Path:
    """A .moc3 with a texture; its bytes are no model."""
    path = tmp_path / "models" / "Miku.moc3"
    texture = path.parent / "Miku.1024" / "texture_00.png"
    texture.parent.mkdir(parents=True)
    Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 255)).save(texture)
    path.write_bytes(b"MOC3\x03" + bytes(range(256)) * 8)
    return path


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch):
    """Let a model of two rectangles stand for what the Core says."""
    rectangles = [Rectangle(id="A", box=(0, 0, 9, 9)), Rectangle(id="B", box=(4, 4, 20, 20))]
    asked = []

    def say(moc: Path, poses: list) -> live2d_core.Answer:
        asked.extend(poses)
        said = answer(rectangles)
        first = [name for name in said if name.startswith("0/")]
        return said | {f"{at}{name[1:]}": said[name] for at in range(len(poses)) for name in first}

    monkeypatch.setattr(live2d, "ask", say)
    monkeypatch.setattr(live2d, "library", lambda: Path("core.so"))
    monkeypatch.setattr("importlib.metadata.version", lambda package: f"version of {package}")
    return asked


def test_the_terms_must_be_accepted(moc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert ingest(tmp_path / "out", moc) == 1
    said = capsys.readouterr().err
    assert "Cubism Core" in said and "live2d.com/eula" in said and ACCEPT in said
    assert list_characters(tmp_path / "out") == []


def test_without_the_extra_it_says_how_to_get_it(
    moc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ingest(tmp_path / "out", moc, ACCEPT) == 1
    assert "pip install 'seethrough[live2d]'" in capsys.readouterr().err


def test_a_model_becomes_a_character_a_pose(moc: Path, tmp_path: Path, spoken: list):
    out = tmp_path / "out"
    assert ingest(out, moc, ACCEPT, "--licence=mine") == 0
    made = [read_character(folder) for folder in list_characters(out)]
    assert {item.provenance.variant for item in made} == {"rest", "open"}
    assert [pose["parameters"] == () for pose in spoken] == [True, False]
    for item in made:
        assert (item.name, item.canvas) == ("Miku", (WIDTH, HEIGHT))
        assert [layer.path for layer in item.layers] == [("PartHead", "A"), ("PartHead", "B")]
        provenance = item.provenance
        assert (provenance.tool, provenance.version) == ("live2d-py", "version of live2d-py")
        assert provenance.licence == "mine"


def test_what_is_there_is_not_drawn_again(
    moc: Path, tmp_path: Path, spoken: list, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    assert ingest(out, moc, ACCEPT) == 0
    monkeypatch.setattr(live2d, "read_texture", lambda path: pytest.fail("read again"))
    assert ingest(out, moc, ACCEPT) == 0
    assert len(list_characters(out)) == 2


def test_another_size_makes_another_character(moc: Path, tmp_path: Path, spoken: list):
    out = tmp_path / "out"
    for flags in ([], ["--live2d_size=20"], ["--live2d_pieces"]):
        assert ingest(out, moc, ACCEPT, "--live2d_poses=rest", *flags) == 0
    made = [read_character(folder) for folder in list_characters(out)]
    assert {(item.provenance.variant, item.canvas) for item in made} == {
        ("rest", (40, 30)),
        ("rest, 20 px", (20, 15)),
        ("rest, pieces", (40, 30)),
    }


def test_a_parameter_that_the_model_lacks_is_named(
    moc: Path, tmp_path: Path, spoken: list, capsys: pytest.CaptureFixture[str]
):
    assert ingest(tmp_path / "out", moc, ACCEPT, "--live2d_poses=ParamAngelX=30") == 1
    assert "no parameter 'ParamAngelX'; did you mean ParamAngleX" in capsys.readouterr().err


def test_parameters_change_from_their_defaults_within_their_limits():
    ids = ["Eye", "Mouth", "Angle"]
    default, minimum, maximum = np.array([[1, 0, 10], [0, 0, -30], [2, 1, 30]], np.float32)
    values = posed_values(
        ids,
        default,
        minimum,
        maximum,
        [("Eye", "max", "set"), ("Mouth", 5, "add"), ("Angle", -2, "multiply"), ("No", 1, "set")],
    )
    assert values.tolist() == [2, 1, -20]
    assert default.tolist() == [1, 0, 10]


def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let a program of our own be the process that asks the Core."""
    (tmp_path / "stand_in.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(live2d_core, "MODULE", "stand_in")
    monkeypatch.setattr(live2d_core, "library", lambda: Path("core.so"))


def test_a_crash_of_the_library_ends_its_own_process_alone(
    moc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    process(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(InputError, match=r"Miku\.moc3: Live2D's library crashed on it \(SIGSEGV"):
        ask(moc, [])


def test_a_library_that_hangs_is_ended(moc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    process(tmp_path, monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(live2d_core, "TIMEOUT", 0.2)
    with pytest.raises(InputError, match=r"Miku\.moc3: Live2D's library hung"):
        ask(moc, [])


def test_a_file_that_is_no_model_is_refused_before_the_library_sees_it(
    moc: Path, monkeypatch: pytest.MonkeyPatch
):
    moc.write_bytes(b"not a model")
    monkeypatch.setattr(live2d_core, "library", lambda: Path("core.so"))
    with pytest.raises(InputError, match=r"Miku\.moc3: no model of Live2D Cubism 3"):
        ask(moc, [])


def test_a_library_that_cannot_be_loaded_names_what_it_needs(
    moc: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live2d_core, "library", lambda: Path("/nowhere/core.so"))
    with pytest.raises(InputError, match="apt-get install libx11-6 libxext6"):
        ask(moc, [])


def test_a_library_without_the_functions_is_named(moc: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live2d_core, "library", lambda: Path("libm.so.6"))
    with pytest.raises(InputError, match=r"has no function csm\w+: install live2d-py==1\.0\.0"):
        ask(moc, [])


@needs_core
def test_the_library_refuses_a_corrupt_model(moc: Path):
    with pytest.raises(InputError, match=r"Miku\.moc3: the file is inconsistent"):
        ask(moc, [])


@needs_core
def test_the_library_refuses_a_newer_format(moc: Path):
    moc.write_bytes(b"MOC3\xc8" + bytes(2000))
    with pytest.raises(InputError, match=r"Miku\.moc3: its format is version 200"):
        ask(moc, [])
