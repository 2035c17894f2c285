"""Captions: names of tags, and what a text file says instead."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seethrough.data.captions import UNTOLD_WORDS, filter_caption
from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR
from seethrough.errors import InputError
from tests.data.layers import at, dataset_2d, parity_sample, two_samples


def test_caption_filter():
    """Number 22 of the parity tests."""
    text = "1girl, Smile, red dress, white background, English commentary,solo"
    assert filter_caption(text) == "red dress"
    assert filter_caption(" Blue Hair ,, long sleeves\n") == "blue hair,long sleeves"


@given(st.lists(st.sampled_from([*sorted(UNTOLD_WORDS), "red dress", "a background", "ribbon "])))
def test_a_filtered_caption_has_nothing_left_to_filter(words: list[str]):
    text = filter_caption(", ".join(words))
    assert filter_caption(text) == text
    assert text.count("red dress") == words.count("red dress")
    assert not UNTOLD_WORDS & set(text.split(",")) and "background" not in text


def test_legwear_without_footwear_names_both(tmp_path: Path):
    without = dataset_2d(parity_sample(tmp_path), tag_list=("legwear",))
    assert without[at(0)]["caption"] == LEGWEAR_WITH_FOOTWEAR
    with_footwear = dataset_2d(two_samples(tmp_path / "two"), tag_list=("legwear",))
    assert with_footwear[at(0, sample=1)]["caption"] == "legwear"


def test_caption_files(tmp_path: Path):
    source = parity_sample(tmp_path)
    (tmp_path / "p_face.txt").write_text("solo, round face")
    (tmp_path / "p.txt").write_text("1girl, ribbon")
    faces, nothing = (dataset_2d(source, tag_list=(tag,)) for tag in ("face", "wings"))
    assert faces[at(0)]["caption"] == "round face"
    assert nothing[at(0)]["caption"] == "ribbon"
    assert set(faces.captions()) == {"", "face", LEGWEAR_WITH_FOOTWEAR, "round face", "ribbon"}
    plain = dataset_2d(source, tag_list=("face",), caption_files=False)
    assert plain[at(0)]["caption"] == "face"
    assert plain.captions() == ["", "face", LEGWEAR_WITH_FOOTWEAR]
    (tmp_path / "p_face.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"p_face\.txt: the caption can't be read"):
        faces[at(0)]
