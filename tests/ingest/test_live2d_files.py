"""What the JSON files of a Live2D model say; no native library is needed."""

import json
from pathlib import Path

import pytest

from seethrough.errors import InputError
from seethrough.ingest.kinds import kind_of
from seethrough.ingest.live2d_files import (
    choose_poses,
    find_files,
    part_names,
    part_opacities,
)


def write(path: Path, value: object, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's files, without the art."""
    for name in ("ミク.moc3", "ミク.2048/texture_00.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    write(tmp_path / "ミク.cdi3.json", {"Parts": [{"Id": "PartFace", "Name": "顔"}]})
    write(tmp_path / "smile.exp3.json", {"Parameters": [{"Id": "ParamSmile", "Value": 1}]})
    return write(
        tmp_path / "ミク.model3.json",
        {
            "FileReferences": {
                "Moc": "ミク.moc3",
                "Textures": ["ミク.2048/texture_00.png"],
                "DisplayInfo": "ミク.cdi3.json",
                "Expressions": [{"Name": "smile", "File": "smile.exp3.json"}],
            },
            "Groups": [{"Name": "LipSync", "Ids": ["MouthA"]}],
        },
        # As some editors on Windows write it.
        "utf-8-sig",
    )


def change(model: Path, field: str, value: object) -> None:
    stored = json.loads(model.read_text("utf-8-sig"))
    stored["FileReferences"][field] = value
    write(model, stored)


def test_a_model_is_what_its_json_names(model: Path):
    files = find_files(model)
    assert (files.name, files.moc.name) == ("ミク", "ミク.moc3")
    assert [path.name for path in files.textures] == ["texture_00.png"]
    assert list(files.expressions) == ["smile"]
    assert part_names(files.display) == {"PartFace": "顔"}


def test_the_json_stands_for_the_moc_beside_it(model: Path):
    moc = model.parent / "ミク.moc3"
    assert kind_of(moc) is None
    kind = kind_of(model)
    assert kind is not None and kind.name == "live2d"
    model.unlink()
    assert kind_of(moc) is kind
    assert [path.name for path in find_files(moc).textures] == ["texture_00.png"]


def test_a_moc_without_textures_says_where_they_are_looked_for(model: Path):
    (model.parent / "ミク.2048/texture_00.png").unlink()
    with pytest.raises(InputError, match=r"found no textures ミク\*/texture_\*\.png"):
        find_files(model.parent / "ミク.moc3")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("Textures", ["gone.png"], r"Textures\[0\] is 'gone.png', but there is no such file"),
        ("Textures", ["../../etc/passwd"], r"Textures\[0\] .* leaves the model's folder"),
        ("Moc", "/etc/passwd", "Moc is '/etc/passwd', which leaves the model's folder"),
        ("Moc", None, "FileReferences.Moc is None, expected a text"),
        ("Textures", None, "FileReferences.Textures is None, expected a list"),
        ("Expressions", ["x"], r"Expressions\[0\] is 'x', expected an object"),
    ],
)
def test_what_is_missing_or_leaves_the_folder_is_named(
    model: Path, field: str, value: object, message: str
):
    change(model, field, value)
    with pytest.raises(InputError, match=message) as raised:
        find_files(model)
    assert str(model) in str(raised.value)


def test_a_link_out_of_the_folder_is_refused(model: Path):
    texture = model.parent / "ミク.2048/texture_00.png"
    texture.unlink()
    texture.symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="leaves the model's folder"):
        find_files(model)


def test_unreadable_json_is_named(model: Path):
    model.write_text("{")
    with pytest.raises(InputError, match=r"model3\.json: no JSON"):
        find_files(model)


def test_of_parts_that_never_show_together_the_first_shows(tmp_path: Path):
    path = write(
        tmp_path / "a.pose3.json",
        {"Groups": [[{"Id": "ArmA", "Link": ["SleeveA"]}, {"Id": "ArmB", "Link": ["SleeveB"]}]]},
    )
    assert part_opacities(path) == {"ArmA": 1, "SleeveA": 1, "ArmB": 0, "SleeveB": 0}
    assert part_opacities(None) == {}
    write(path, {"Groups": [[{"Link": []}]]})
    with pytest.raises(InputError, match=r"Groups\[0\]\[0\]\.Id is None"):
        part_opacities(path)


def test_poses_are_chosen_by_word(model: Path):
    files = find_files(model)
    rest, wide, smile, turned = choose_poses(
        files, ("rest", "open", "expressions", "ParamAngleX=30+ParamAngleY=-1.5", "rest")
    )
    assert (rest.name, rest.changes) == ("rest", ())
    assert {("MouthA", "max", "set"), ("ParamEyeLOpen", "max", "set")} <= set(wide.changes)
    assert (smile.name, smile.changes) == ("expression:smile", (("ParamSmile", 1.0, "add"),))
    assert smile.file == model.parent / "smile.exp3.json"
    assert turned.strict
    assert turned.changes == (("ParamAngleX", 30.0, "set"), ("ParamAngleY", -1.5, "set"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("expression:smiel", "no expression 'smiel'; did you mean smile"),
        ("opne", "no pose 'opne': expected rest, open, expressions"),
        ("ParamAngleX=wide", "no pose 'ParamAngleX=wide'"),
    ],
)
def test_a_pose_that_cannot_be_is_named(model: Path, word: str, message: str):
    with pytest.raises(InputError, match=message):
        choose_poses(find_files(model), (word,))


def test_a_broken_expression_is_named(model: Path):
    entry = {"Id": "ParamSmile", "Value": 1, "Blend": "Subtract"}
    write(model.parent / "smile.exp3.json", {"Parameters": [entry]})
    with pytest.raises(InputError, match=r"smile\.exp3\.json: Parameters\[0\] is .*Subtract"):
        choose_poses(find_files(model), ("expressions",))
