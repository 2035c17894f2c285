"""Part masks of a trained model vote for the layers of characters."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seethrough.characters.form import Character
from seethrough.characters.labels import Label, read_labels
from seethrough.data.tags import TAGS_V2
from seethrough.errors import InputError
from seethrough.label.__main__ import main
from seethrough.label.masks import PartFinder
from seethrough.label.settings import LabelSettings
from seethrough.recipe import Local
from tests.label.drawn import Plain, draw
from tests.models.small_sam import small_model

Say = pytest.CaptureFixture[str]


def label_of(character: Character, layer: str) -> Label:
    labels = read_labels(character.folder)
    assert labels is not None
    return labels.layers[layer]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "checkpoint-18000.pt"
    torch.save(small_model(19).state_dict(), path)
    return path


def test_masks_of_a_model_vote_for_what_no_name_tells(
    model: Path, tmp_path: Path, capsys: Say
) -> None:
    character = draw(tmp_path / "all", [Plain("ArtMesh1", (20, 30, 120, 180), (250, 100, 9))])
    command = [str(tmp_path / "all"), f"--sam=file:{model}"]
    finder = PartFinder(LabelSettings(sam=Local(path=str(model))))
    found = finder.find(character)
    assert found.bits.shape == (200, 200) and tuple(found.tags) == TAGS_V2
    assert not found.bits[:30].any() and found.bits[30:180, 20:120].any()
    assert main(command) == 0
    bits = found.bits[30:180, 20:120]
    shares = [np.count_nonzero(bits & np.uint32(1 << bit)) for bit in range(19)]
    best = TAGS_V2[int(np.argmax(shares))]
    label = label_of(character, "ArtMesh1")
    assert label.by in ("votes", "split")
    assert label.tag == best or best in ("hair", "eyes", "legwear")
    assert main(command) == 0
    assert "1 done before" in capsys.readouterr().out
    assert main(command[:1]) == 0  # Names alone say less, and take nothing back.
    assert "1 done before" in capsys.readouterr().out
    # Other weights, other labels.
    torch.save(small_model(19, seed=1).state_dict(), model)
    assert main(command) == 0
    assert "1 labelled" in capsys.readouterr().out


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="one file of weights is expected, found none"):
        PartFinder(LabelSettings(sam=Local(path=str(tmp_path / "empty"))))
    with pytest.raises(InputError, match=r"none\.pt: no such file or folder"):
        PartFinder(LabelSettings(sam=Local(path=str(tmp_path / "none.pt"))))
