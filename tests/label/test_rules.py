"""What names, masks, order and place say of a layer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from seethrough.characters.form import Character
from seethrough.characters.labels import Label, Labels
from seethrough.data.layer_names import ENGLISH, JAPANESE
from seethrough.data.tags import TAGS_V2, TAGS_V3
from seethrough.label.guess import Guess, combine
from seethrough.label.names import name_guess, words
from seethrough.label.parents import inherit
from seethrough.label.rules import automatic_labels
from seethrough.label.split import split_eyes, split_hair
from seethrough.label.votes import PartMap, visible_pixels, vote
from tests.label.drawn import Plain, draw


def named(path: str) -> str | None:
    guess = name_guess(path.split("/"))
    return None if guess is None else guess.tag


def told(guess: Guess | None) -> tuple[str, float, str]:
    assert guess is not None
    return guess.tag, guess.confidence, guess.by


def test_words_end_at_signs_digits_and_capitals():
    assert words("PARTS_01_EYE_BALL_001") == ["parts", "eye", "ball"]
    assert words("Part01HairFront001") == ["part", "hair", "front"]
    assert words("Legs-x B") == ["legs", "x", "b"]
    assert words("\uff35\uff29Layer") == ["ui", "layer"]


@pytest.mark.parametrize(
    ("path", "tag"),
    [
        # As the published rules say.
        ("PARTS_01_EYE_BALL_001", "irides"),
        ("PartBrow/ArtMesh1", "eyebrow"),
        ("EyeWhiteL", "eyewhite"),
        ("mouth/upper", "mouth"),
        ("EyelashR", "eyelash"),
        ("Tooth", "mouth"),
        ("PartHairSide/D1", "hair"),
        ("PartArmL/D1", "handwear"),
        ("PartFace/D1", "face"),
        ("EarL", "ears"),
        ("PartEyeL/D1", "eyes"),
        ("PartBody/Legs-x", "legwear"),
        ("Neck", "neck"),
        ("hand_r", "handwear"),
        ("nose2", "nose"),
        ("PartBody/D1", "topwear"),
        # Where letters of other words misled them.
        ("PartAccessory/Pearl", None),
        ("Beard", None),
        ("Heart", None),
        ("Charm/Armor", None),
        ("HairRear", "back hair"),
        # The name itself says more than its group, and two words more than one.
        ("PartHair/Ribbon", "headwear"),
        ("Hair/Front", "front hair"),
        ("PartHairBack/D3", "back hair"),
        ("fronthair", "front hair"),
        ("Eye/Left/White", "eyes"),
        ("Eye L/White", "eyewhite"),
        ("Head/Earring", "earwear"),
        ("PartFace/Eye Brow", "eyebrow"),
        ("Glasses", "eyewear"),
        ("Boots", "footwear"),
        ("ArtMesh66", None),
        # As Live2D's artists name them.
        ("前髪/影", "front hair"),
        ("後ろ髪", "back hair"),
        ("横髪", "hair"),
        ("まゆ毛", "eyebrow"),
        ("左白目", "eyewhite"),
        ("右目玉", "irides"),
        ("目", "eyes"),
        ("頬", "face"),
        ("口内", "mouth"),
        ("手首", "handwear"),
        ("足首", "legwear"),
        ("首輪", "neckwear"),
        ("髪飾り", "headwear"),
        ("耳飾り", "earwear"),
        ("左腕 B", "handwear"),
        ("制服", "topwear"),
        ("スカート", "bottomwear"),
        ("体/靴", "footwear"),
        ("頭部/ArtMesh1", None),
        ("コアパーツ", None),
        ("[ 下絵 ]", None),
    ],
)
def test_what_a_name_says(path: str, tag: str | None):
    assert named(path) == tag


def test_a_name_is_surer_than_its_group_and_a_vague_word_less_sure():
    own, group, vague = (name_guess(path.split("/")) for path in ("Face", "Face/y/x", "Body"))
    assert own is not None and group is not None and vague is not None
    assert own.confidence == 0.95
    assert group.confidence == pytest.approx(0.95 * 0.9**2)
    assert vague.confidence == 0.6


def test_every_name_of_the_tables_means_a_tag_and_only_one():
    for table in (ENGLISH, JAPANESE):
        seen: list[str] = []
        for tags in table.values():
            assert set(tags) <= {*TAGS_V2, *TAGS_V3}
            seen += [name for names in tags.values() for name in names]
            for tag, names in tags.items():
                assert {named(name) for name in names} == {tag}
        assert len(seen) == len(set(seen))


def test_of_two_guesses_the_surer_holds_and_agreement_makes_surer():
    eyes, irides = Guess("eyes", 0.8, "votes"), Guess("irides", 0.9, "name")
    assert told(combine(irides, eyes)) == ("irides", pytest.approx(0.98), "name")
    front = combine(Guess("hair", 0.9, "name"), Guess("front hair", 0.5, "votes"))
    assert told(front) == ("front hair", pytest.approx(0.95), "votes")
    wing = Guess("wings", 0.85, "votes")
    assert combine(irides, wing) == irides and combine(Guess("face", 0.8, "name"), wing) == wing
    assert combine(None, None) is None and combine(None, wing) == wing


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return draw(tmp_path_factory.mktemp("stack"))


def test_what_is_seen_of_each_layer(stack: Character):
    seen = [int(visible.mask.sum()) for visible in visible_pixels(stack)]
    assert seen == [6000, 4200, 2400, 4100, 100, 1200, 800]


def test_alpha_opacity_clips_and_blend_modes_count(tmp_path: Path):
    box = (0, 0, 10, 10)
    character = draw(
        tmp_path,
        [
            Plain("a", box),
            Plain("faint", (10, 0, 20, 10), alpha=25),
            Plain("solid", (10, 10, 20, 20), alpha=26),
            Plain("clipped", (-5, 0, 5, 40), more={"clip": (0,)}),
            Plain("half", box, alpha=229),
            Plain("glow", (10, 10, 20, 20), more={"blend": "add"}),
            Plain("hidden", box, more={"visible": False}),
            Plain("cover", (0, 0, 2, 10), alpha=230),
        ],
    )
    seen = [int(visible.mask.sum()) for visible in visible_pixels(character)]
    # 229 lets more than a tenth of the light through, 230 less.
    assert seen == [50, 0, 100, 30, 80, 100, 0, 20]


def part_map(parts: dict[str, Sequence[int]], tags: Sequence[str] = TAGS_V2) -> PartMap:
    """Masks by their boxes on 200 x 200 pixels."""
    bits = np.zeros((200, 200), np.uint32)
    for tag, (x1, y1, x2, y2) in parts.items():
        bits[y1:y2, x1:x2] |= np.uint32(1 << list(tags).index(tag))
    return PartMap(bits, tags)


def voted(stack: Character, index: int, parts: dict[str, Sequence[int]]) -> Guess | None:
    return vote(visible_pixels(stack)[index], part_map(parts))


def test_the_part_that_most_of_it_is_in(stack: Character):
    eye = (80, 60, 90, 70)
    assert voted(stack, 4, {"eyes": eye}) == Guess("eyes", 0.9, "votes")
    half = voted(stack, 4, {"eyes": (80, 60, 85, 70)})
    assert half is not None and half.confidence == pytest.approx(0.45)
    tie = voted(stack, 4, {"eyes": eye, "face": eye})
    assert told(tie) == ("face", pytest.approx(0.45), "votes")
    assert voted(stack, 4, {"hair": (0, 0, 10, 10)}) is None


def test_legwear_is_footwear_where_half_of_it_is_shoe(stack: Character):
    legs, touch = (70, 150, 130, 190), (70, 150, 71, 151)
    both = voted(stack, 2, {"legwear": legs, "footwear": (70, 160, 130, 190)})
    assert both is not None and both.tag == "footwear"
    # A pixel of headwear made it that once.
    kept = voted(stack, 2, {"legwear": legs, "headwear": touch, "footwear": (70, 180, 130, 190)})
    assert kept is not None and kept.tag == "legwear"


def test_a_layer_without_a_vote_has_no_label(tmp_path: Path):
    character = draw(tmp_path, [Plain("x/Face", (0, 0, 9, 9)), Plain("x/ArtMesh1", (9, 9, 19, 19))])
    labels = automatic_labels(character, "v3", None, part_map({"face": (0, 0, 9, 9)}))
    assert list(labels) == ["x/Face"]
    # What nobody looked at goes with those beside it.
    labels = automatic_labels(character, "v3", None, None)
    assert labels["x/ArtMesh1"] == Label("face", 0.5, "parent")


def test_the_whole_stack(stack: Character):
    masks = part_map({"topwear": (60, 100, 140, 150), "legwear": (60, 150, 140, 190)})
    labels = automatic_labels(stack, "v3", None, masks)
    assert {name.split("/")[1]: label.tag for name, label in labels.items()} == {
        "HairBack1": "back hair",
        "Body1": "topwear",
        "Legs-x": "legwear",
        "Face1": "face",
        "EyeL": "eyelash",
        "HairFront1": "front hair",
        "HairFront2": "front hair",
    }
    assert labels["PartBody/Body1"].confidence > 0.6 and labels["PartFace/EyeL"].by == "split"
    v2 = automatic_labels(stack, "v2", None, masks)
    assert [label.tag for label in v2.values()][::4] == ["hair", "eyes"]


def test_what_a_person_said_stays_and_tells_about_the_others(stack: Character):
    kept = Labels(
        tag_set="v3",
        layers={
            "PartFace/EyeL": Label("eyebrow", 1.0, "person"),
            "PartHair/HairFront1": Label(None, 1.0, "person"),
            "PartFace/Face1": Label("nose", 0.2, "votes"),
        },
    )
    labels = automatic_labels(stack, "v3", kept, None)
    assert labels["PartFace/EyeL"] == kept.layers["PartFace/EyeL"]
    assert labels["PartHair/HairFront1"] == kept.layers["PartHair/HairFront1"]
    assert labels["PartFace/Face1"].tag == "face"


def hair_around(*faces: Plain, tmp_path: Path) -> list[str]:
    layers = [Plain("h0", (0, 0, 9, 9)), *faces, Plain("h1", (0, 0, 9, 9))]
    character = draw(tmp_path, layers)
    guesses = {0: Guess("hair", 1.0, "name"), len(layers) - 1: Guess("hair", 1.0, "name")}
    for index, face in enumerate(faces, 1):
        guesses[index] = Guess(face.path, 1.0, "name")
    split_hair(character, guesses)
    return [guesses[0].tag, guesses[len(layers) - 1].tag]


def test_hair_lies_before_or_behind_the_face(tmp_path: Path):
    face = Plain("face", (0, 0, 50, 50))
    assert hair_around(face, tmp_path=tmp_path / "a") == ["back hair", "front hair"]
    nothing = hair_around(Plain("neck", (0, 0, 9, 9)), tmp_path=tmp_path / "b")
    assert nothing == ["front hair", "front hair"]
    # A blush on top of the hair moves nothing, and a mouth below the face does.
    layers = [face, Plain("h", (0, 0, 9, 9)), Plain("blush", (0, 0, 9, 9))]
    character = draw(tmp_path / "c", layers)
    guesses = {i: Guess(t, 1.0, "name") for i, t in enumerate(["face", "hair", "face"])}
    split_hair(character, guesses)
    assert guesses[1].tag == "front hair"


def eyes_of(
    tmp_path: Path, layers: Sequence[Plain], known: dict[int, str] | None = None
) -> list[str]:
    character = draw(tmp_path, layers)
    guesses = {index: Guess("eyes", 1.0, "votes") for index in range(len(layers))}
    guesses |= {index: Guess(tag, 1.0, "name") for index, tag in (known or {}).items()}
    split_eyes(character, guesses)
    assert all(guess.confidence <= 0.85 for i, guess in guesses.items() if i not in (known or {}))
    return [guesses[index].tag for index in range(len(layers))]


EYE = (
    Plain("white", (20, 60, 60, 90)),
    Plain("iris", (30, 60, 50, 90)),
    Plain("lash", (18, 55, 62, 66)),
    Plain("brow", (18, 40, 62, 48)),
)
PARTS = ["eyewhite", "irides", "eyelash", "eyebrow"]


def test_an_eye_is_told_by_place(tmp_path: Path):
    assert eyes_of(tmp_path / "one", EYE) == PARTS
    twins = [Plain(f"{p.path}2", (p.box[0] + 80, p.box[1], p.box[2] + 80, p.box[3])) for p in EYE]
    assert eyes_of(tmp_path / "two", [*EYE, *twins]) == PARTS * 2


def test_a_clip_tells_iris_and_white_and_names_help(tmp_path: Path):
    clipped = Plain("iris", (25, 58, 55, 92), more={"clip": (0,)})
    assert eyes_of(tmp_path / "a", [EYE[0], clipped, *EYE[2:]]) == PARTS
    shadow = Plain("shadow", (20, 60, 60, 80), more={"clip": (0,)})
    assert eyes_of(tmp_path / "c", [EYE[0], shadow, *EYE[1:]]) == ["eyewhite", *PARTS]
    corner = Plain("end of the lash", (50, 62, 58, 88))
    assert eyes_of(tmp_path / "d", [*EYE, corner]) == [*PARTS, "eyelash"]
    assert eyes_of(tmp_path / "b", EYE[1:], {0: "irides"}) == PARTS[1:]


def test_hidden_layers_go_with_their_group(tmp_path: Path):
    paths = ["a/x", "a/y", "a/z", "a/n", "b/u", "b/c/v", "d/w", "r", "s"]
    layers = [Plain(path, (0, 0, 9, 9)) for path in paths]
    character = draw(tmp_path, layers)
    guesses = {
        0: Guess("topwear", 1.0, "name"),
        1: Guess("topwear", 1.0, "name"),
        2: Guess("neck", 1.0, "name"),
        4: Guess("tail", 1.0, "name"),
        7: Guess("wings", 1.0, "name"),
    }
    inherit(character, guesses, [3, 5, 6, 8])
    assert told(guesses[3]) == ("topwear", pytest.approx(1 / 3), "parent")
    assert guesses[5].tag == "tail"  # Of the group around its own.
    assert 6 not in guesses  # The top level says nothing of groups.
    assert guesses[8].tag == "wings"
