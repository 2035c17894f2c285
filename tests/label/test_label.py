"""Characters in, labels out, as a user starts it."""

from pathlib import Path

import attrs
import pytest

from seethrough.characters.form import Character
from seethrough.characters.labels import FILE_NAME, Label, Labels, read_labels, write_labels
from seethrough.label.__main__ import main
from seethrough.label.characters import Totals, label_character
from tests.label.drawn import STACK, draw

Say = pytest.CaptureFixture[str]


@pytest.fixture
def stack(tmp_path: Path) -> Character:
    return draw(tmp_path / "all")


def labels_of(character: Character) -> Labels:
    labels = read_labels(character.folder)
    assert labels is not None
    return labels


def test_by_names_alone_and_one_bad_character_stops_nothing(
    stack: Character, tmp_path: Path, capsys: Say
) -> None:
    bad = draw(tmp_path / "all", STACK[:1], name="A")
    (bad.folder / "character.json").write_text("{}")
    assert main([str(tmp_path / "all")]) == 1
    said = capsys.readouterr()
    assert "labelling by names alone" in said.out
    assert "7 layers: 6 name, 1 split; 1 unsure" in said.out
    assert "characters: 1 labelled, 1 failed" in said.out
    assert "tags: 2 front hair, 1 back hair, 1 topwear" in said.out
    assert f"failed: 1\n  {bad.folder}/character.json: form is None" in said.err
    labels = labels_of(stack)
    assert labels.tag_set == "v3" and labels.valid and not labels.checked
    assert labels.layers["PartFace/Face1"] == Label("face", 0.95, "name")


def test_what_is_done_is_skipped_and_what_a_person_said_stays(
    stack: Character, tmp_path: Path, capsys: Say
) -> None:
    command = [str(stack.folder.parent)]
    assert main(command) == 0
    before = (stack.folder / FILE_NAME).stat().st_mtime_ns
    assert main(command) == 0
    assert "characters: 1 done before, 0 failed" in capsys.readouterr().out
    assert (stack.folder / FILE_NAME).stat().st_mtime_ns == before

    mine = Label("wings", 1.0, "person")
    edited = {**labels_of(stack).layers, "PartFace/Face1": mine}
    kept = attrs.evolve(labels_of(stack), layers=edited, made_with="older rules", incomplete=True)
    write_labels(stack.folder, kept)
    assert main(command) == 0
    now = labels_of(stack)
    assert now.layers["PartFace/Face1"] == mine and now.incomplete
    assert now.made_with != "older rules"
    # Without a face nothing lies behind it, but the name says what it is.
    assert now.tag("PartHair/HairBack1") == "back hair"


def test_checked_labels_are_only_read_in_the_other_set(stack: Character, capsys: Say) -> None:
    layers = {"PartHair/HairBack1": Label("front hair", 0.4, "votes")}
    write_labels(stack.folder, Labels(tag_set="v3", layers=layers, checked=True))
    assert main([str(stack.folder.parent), "--tag_set=v2"]) == 0
    now = labels_of(stack)
    assert now.tag_set == "v2" and now.layers == {"PartHair/HairBack1": Label("hair", 0.4, "votes")}
    assert main([str(stack.folder.parent), "--tag_set=v3"]) == 1
    assert "could be back hair, front hair" in capsys.readouterr().err
    assert labels_of(stack) == now


def test_labels_of_rules_are_made_anew_in_another_set(stack: Character) -> None:
    assert main([str(stack.folder.parent), "--tag_set=v2"]) == 0
    assert labels_of(stack).tag("PartFace/EyeL") == "eyes"
    assert main([str(stack.folder.parent)]) == 0
    assert labels_of(stack).tag("PartFace/EyeL") == "eyelash"


def test_a_label_of_a_layer_that_is_not_there_is_told(stack: Character, capsys: Say) -> None:
    write_labels(stack.folder, Labels(tag_set="v3", layers={"Fac": Label(None, 1.0, "person")}))
    assert main([str(stack.folder.parent)]) == 1
    assert f"{stack.folder / FILE_NAME}: layers: no layer 'Fac'" in capsys.readouterr().err


def test_a_person_may_label_while_the_masks_are_found(stack: Character) -> None:
    mine = Label("tail", 1.0, "person")

    class Slow:
        identity = "slow"

        def find(self, character: Character) -> None:
            write_labels(character.folder, Labels(tag_set="v3", layers={"PartFace/Face1": mine}))

    label_character(stack.folder, "v3", Slow(), Totals())  # pyright: ignore[reportArgumentType]
    assert labels_of(stack).layers["PartFace/Face1"] == mine
    assert labels_of(stack).tag("PartHair/HairBack1") == "back hair"


def test_flags(tmp_path: Path, capsys: Say) -> None:
    for words, said in (
        ([], "one folder of characters is expected, found none"),
        (["a", "b"], "found a b"),
        (["a", "--tag_set=v4"], "tag_set"),
        (["edit", "a", "--sam=file:x"], "--sam: no such flag"),
        ([str(tmp_path / "none")], "no folder of characters"),
        ([str(tmp_path)], "no character is in it"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("--sam=", "--tag_set=v3", "label edit FOLDER", "--port"))
