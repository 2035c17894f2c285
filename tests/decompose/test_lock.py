"""A folder of results belongs to one process at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seethrough.decompose.__main__ import main
from seethrough.decompose.lock import locked
from seethrough.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from seethrough.decompose.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_process_is_told_of_the_first_and_a_killed_one_leaves_no_lock(
    layer_model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "one" / "one.psd"
    earlier.parent.mkdir()
    earlier.write_text("earlier")
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    image = str(pictures / "one.png")
    assert main([image, f"--layers=file:{layer_model}", f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert f"--out={tmp_path}: process {first.pid} on " in said
    assert "is writing there: wait until it is done, or choose another folder" in said
    assert earlier.read_text() == "earlier"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    with locked(tmp_path):
        pass


def test_a_folder_is_free_again_after_the_block(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(KeyError), locked(out):
        raise KeyError
    with locked(out), pytest.raises(InputError, match="is writing there"), locked(out):
        pass


def test_a_folder_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / ".lock").mkdir(parents=True)
    for out in (tmp_path / "file" / "out", tmp_path / "taken"):
        with (
            pytest.raises(InputError, match=f"--out={out}: no results can be written there"),
            locked(out),
        ):
            pass
