"""The command line itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from seethrough.benchmark.settings import (
    LEAST_CUTOUT,
    DepthSettings,
    LayersSettings,
    help_text,
    parse,
)
from seethrough.metrics.pictures import LEAST_SIDE
from seethrough.recipe import RecipeError
from tests.benchmark.conftest import benchmark


def test_flags_of_each_benchmark():
    command = parse(["layers", "a.txt", "b", "--tags=v2", "--without_networks", "--out=c"])
    assert command.settings == LayersSettings(tags="v2", without_networks=True)
    assert (command.samples, command.predictions) == (Path("a.txt"), Path("b"))
    assert command.out == Path("c")
    command = parse(["depth", "a", "b", "--nearest=bright"])
    assert command.settings == DepthSettings(nearest="bright")
    assert command.out == Path("benchmarked/depth")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is measured?"),
        (["layer", "a", "b"], "did you mean layers"),
        (["depth", "a"], "given a: write .* depth SAMPLES PREDICTIONS"),
        (["depth", "a", "b", "--cutout=200"], "no such flag"),
        (["layers", "a", "b", "--cutout=100"], f"MS-SSIM needs at least {LEAST_CUTOUT}"),
        (["partseg", "a", "b", "--tags=v2"], "no such flag"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], message: str):
    with pytest.raises(RecipeError, match=message):
        parse(words)


def test_the_help_names_every_flag_once_where_it_belongs():
    text = help_text()
    assert text.count("--worst=24") == 1 and text.count("--tags=v3") == 2
    assert text.index("more flags of layers") < text.index("--cutout") < text.index("of depth")


def test_the_least_side_is_that_of_the_measure():
    assert LEAST_CUTOUT == LEAST_SIDE


def test_help_and_mistakes_need_no_torch():
    program = (
        "import sys; from seethrough.benchmark.__main__ import main;"
        "codes = main(['--help']), main(['layers']);"
        "assert codes == (0, 2) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_samples_and_predictions_must_be_there_and_have_names_of_their_own(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = f"--out={tmp_path / 'out'}"
    benchmark("depth", tmp_path / "none", tmp_path, out, code=2)
    assert "no such sample list" in capsys.readouterr().err
    benchmark("depth", samples, tmp_path / "none", out, code=2)
    assert "no such folder of predictions" in capsys.readouterr().err
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "one.png"
    other.write_bytes((samples.parent / "one.png").read_bytes())
    both = tmp_path / "both.txt"
    both.write_text(f"{samples.parent / 'one.png'}\n{other}\n")
    benchmark("depth", both, tmp_path, out, code=2)
    assert "can't be told apart" in capsys.readouterr().err
