"""The labels of a character: read and written, refused with a name, and read in other sets."""

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.characters.labels import (
    FILE_NAME,
    Label,
    Labels,
    labels_text,
    parse_labels,
    read_labels,
    write_labels,
)
from seethrough.data.tags import TAGS_V3
from seethrough.errors import InputError

LABELS = Labels(
    tag_set="v3",
    layers={
        "前髪/Fringe": Label("front hair", 0.95, "name"),
        "Guide": Label(None, 1.0, "person"),
    },
    incomplete=True,
    made_with="names",
)


def content(**changes: Any) -> dict[str, Any]:
    layer = {"tag": "face", "confidence": 0.5, "by": "votes"}
    return {"tag_set": "v3", "layers": {"A/B": layer}, **changes}


def layer(**changes: Any) -> dict[str, Any]:
    return {"layers": {"A/B": {**content()["layers"]["A/B"], **changes}}}


def test_what_is_written_is_read_and_has_a_line_for_each_layer(tmp_path: Path):
    assert read_labels(tmp_path) is None
    write_labels(tmp_path, LABELS)
    assert read_labels(tmp_path) == LABELS
    assert os.listdir(tmp_path) == [FILE_NAME]
    lines = (tmp_path / FILE_NAME).read_text(encoding="utf-8").splitlines()
    assert '  "前髪/Fringe": {"tag": "front hair", "confidence": 0.95, "by": "name"},' in lines
    assert LABELS.tag("前髪/Fringe") == "front hair"
    assert LABELS.tag("Guide") is None and LABELS.tag("new") is None


@given(
    st.builds(
        Labels,
        tag_set=st.just("v3"),
        layers=st.dictionaries(
            st.text(),
            st.builds(
                Label,
                st.sampled_from([None, *TAGS_V3]),
                st.floats(0, 1),
                st.sampled_from(["name", "votes", "split", "parent", "person"]),
            ),
        ),
        valid=st.booleans(),
        incomplete=st.booleans(),
        checked=st.booleans(),
        made_with=st.none() | st.text(),
    )
)
def test_any_labels_come_back(labels: Labels):
    assert parse_labels(labels_text(labels), "labels.json") == labels


def test_flags_may_be_left_out_and_old_names_are_read():
    text = json.dumps(content(**layer(tag="hairf")))
    labels = parse_labels(text, "labels.json")
    assert (labels.valid, labels.incomplete, labels.checked) == (True, False, False)
    assert labels.tag("A/B") == "front hair"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tag_sets": "v3"}, r"labels.json: no key 'tag_sets'; did you mean tag_set\?"),
        ({"tag_set": "v4"}, "tag_set: no tag set 'v4'; known: v1, v2, v3"),
        ({"tag_set": 3}, "tag_set: expected one of v1, v2, v3"),
        ({"layers": ["A/B"]}, "layers: expected an object"),
        ({"layers": {"A/B": "face"}}, "A/B: expected an object, found face"),
        ({"valid": "yes"}, "valid: expected true or false, found 'yes'"),
        ({"made_with": 1}, "made_with: expected text"),
        (layer(tag="fron hair"), r"A/B: tag: v3 has no tag 'fron hair'; did you mean front hair"),
        (layer(tag="head"), "A/B: tag: v3 has no tag 'head'"),
        (layer(tag=3), "A/B: tag: expected a tag of v3 or null"),
        (layer(confidence=1.5), "A/B: confidence: expected 0 to 1, found 1.5"),
        (layer(confidence=float("nan")), "A/B: confidence: expected 0 to 1, found nan"),
        (layer(confidence=True), "A/B: confidence: expected a number, found True"),
        (layer(by="nme"), r"A/B: by: found 'nme'; did you mean name\?"),
        (layer(sure=1), "A/B: no key 'sure'"),
    ],
)
def test_what_may_not_be_there_is_named(tmp_path: Path, changes: dict[str, Any], said: str):
    (tmp_path / FILE_NAME).write_text(json.dumps(content(**changes)))
    with pytest.raises(InputError, match=said) as refused:
        read_labels(tmp_path)
    assert str(refused.value).startswith(str(tmp_path / FILE_NAME))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"layers": {}}', "lacks the key 'tag_set'"),
        ('{"tag_set": "v3", "layers": {"a": 1, "a": 2}}', "the key 'a' is there twice"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, said: str):
    with pytest.raises(InputError, match=said):
        parse_labels(text, "labels.json")


def test_labels_that_could_not_be_read_back_are_not_written(tmp_path: Path):
    write_labels(tmp_path, LABELS)
    wrong = attrs.evolve(LABELS, layers={"a": Label("hat", 1.0, "person")})
    with pytest.raises(InputError, match="v3 has no tag 'hat'"):
        write_labels(tmp_path, wrong)
    assert read_labels(tmp_path) == LABELS


def test_a_label_of_no_layer_is_named():
    LABELS.check_layers(["Guide", "前髪/Fringe", "more"], "labels.json")
    with pytest.raises(InputError, match=r"labels.json: layers: no layer 'Guide'; did you mean Gu"):
        LABELS.check_layers(["Guides", "前髪/Fringe"], "labels.json")


def read_in(tag: str, source: str, target: str) -> str | None:
    labels = Labels(tag_set=source, layers={"a": Label(tag, 0.5, "person")})
    read = labels.in_tag_set(target)
    assert read.tag_set == target and read.layers["a"].confidence == 0.5
    return read.tag("a")


def test_v3_is_read_in_v2():
    merged = {tag: read_in(tag, "v3", "v2") for tag in TAGS_V3}
    assert {tag: to for tag, to in merged.items() if to != tag} == {
        "front hair": "hair",
        "back hair": "hair",
        "irides": "eyes",
        "eyebrow": "eyes",
        "eyewhite": "eyes",
        "eyelash": "eyes",
    }
    assert read_in("eyebrow", "v3", "v1") == "eyes"
    assert read_in("topwear", "v1", "v3") == "topwear"
    assert LABELS.in_tag_set("v2").layers["Guide"] == LABELS.layers["Guide"]


@pytest.mark.parametrize(
    ("tag", "source", "target", "said"),
    [
        ("hair", "v2", "v3", "Hat/A: 'hair' of v2 can't be read in v3: it could be back hair, fro"),
        ("eyes", "v1", "v3", "Hat/A: 'eyes' of v2 can't be read in v3: it could be eyewhite, iri"),
        ("skin", "v1", "v3", "Hat/A: 'skin' of v1 can't be read in v2: it could be face, neck"),
        ("objects", "v3", "v1", "Hat/A: 'objects' of v2 can't be read in v1: it has no tag like"),
    ],
)
def test_what_only_a_look_tells_is_refused(tag: str, source: str, target: str, said: str):
    layers = {"Hat/A": Label(tag, 1.0, "person"), "b": Label("face", 1.0, "name")}
    with pytest.raises(InputError, match=said):
        Labels(tag_set=source, layers=layers).in_tag_set(target)


def test_an_unknown_set_is_named():
    with pytest.raises(InputError, match=r"tag_set: no tag set 'v33'; did you mean v3"):
        LABELS.in_tag_set("v33")
