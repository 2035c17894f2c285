"""The embedded characters are complete, deterministic, varied, and true to the art."""

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import python_avatars as pa
from numpy.typing import NDArray

from seethrough.data import avatars, avatars_parts
from seethrough.data.avatars import Character, draw_character, drawing_levels, over
from seethrough.data.avatars_parts import Part
from seethrough.data.items import SEEN_ALPHA
from seethrough.data.tags import HEAD_PARTS, TAGS_V3

COUNT = 150


@pytest.fixture(scope="module")
def characters() -> list[Character]:
    return [draw_character(seed, "train", 64) for seed in range(COUNT)]


def orders(characters: list[Character], first: str, second: str) -> set[bool]:
    """Whether `first` lies behind `second`, over the characters that have both."""
    found: set[bool] = set()
    for character in characters:
        tags = [layer.tag for layer in character.layers]
        if first in tags and second in tags:
            found.add(tags.index(first) < tags.index(second))
    return found


def test_a_seed_draws_the_same_character_again() -> None:
    one, again, other = (draw_character(seed, "train", 64) for seed in (3, 3, 4))
    assert one.parts == again.parts
    assert one.page.tobytes() == again.page.tobytes()
    for layer, same in zip(one.layers, again.layers, strict=True):
        assert layer.tag == same.tag
        assert layer.rgba.tobytes() == same.rgba.tobytes()
    assert one.page.tobytes() != other.page.tobytes()


def test_train_and_test_share_no_combination(characters: list[Character]) -> None:
    train = {character.parts for character in characters}
    test = {draw_character(seed, "test", 8).parts for seed in range(COUNT)}
    assert len(train) > COUNT * 0.95
    assert len(test) > COUNT * 0.95
    assert not train & test
    for seed in range(20):
        assert draw_character(seed, "train", 8).parts != draw_character(seed, "test", 8).parts


def test_layers_over_each_other_are_the_page(characters: list[Character]) -> None:
    for character in characters:
        flat = over(layer.rgba for layer in character.layers)
        page = character.page.astype(np.float64)
        rgb = flat[..., :3] + (1 - flat[..., 3:]) * character.background
        assert np.abs(rgb - page[..., :3]).max() <= 1
        assert np.abs(flat[..., 3] * 255 - page[..., 3]).max() <= 1
        assert (page[..., 3] == 0).any(), "the background shows somewhere"


def test_tags_are_v3_and_a_layer_is_nearer_than_what_it_is_seen_to_cover(
    characters: list[Character],
) -> None:
    for character in characters:
        tags = [layer.tag for layer in character.layers]
        assert len(set(tags)) == len(tags)
        assert set(tags) <= set(TAGS_V3)
        assert {"face", "neck", "ears", "topwear"} <= set(tags)
        hidden = np.zeros((character.size, character.size), bool)
        for place, layer in reversed(list(enumerate(character.layers))):
            inside = layer.rgba[..., 3] > SEEN_ALPHA
            assert inside.any()
            assert (layer.depth[~inside] == 0).all()
            assert np.unique(layer.depth[inside]).size == 1
            for below in character.layers[:place]:
                if (inside & ~hidden & (below.depth > 0)).sum() >= hidden.size // 256:
                    assert layer.depth.max() > below.depth.max()
            hidden |= inside


def test_a_level_is_the_usual_one_or_above_what_a_layer_is_seen_to_cover():
    """Clothes that are drawn last lie where they usually do, but for what they cover."""
    places = {"neck": (0, 4), "face": (3, 6), "earwear": (0, 0), "topwear": (0, 4)}
    masks = {tag: np.isin(np.arange(10), np.r_[slice(*at)])[None] for tag, at in places.items()}
    levels = drawing_levels(masks)
    assert list(levels) == ["neck", "face", "topwear"]
    assert 0 < levels["neck"] < levels["face"] < levels["topwear"] <= 255
    apart = masks | {"topwear": masks["topwear"] & ~masks["face"]}
    assert levels["neck"] < drawing_levels(apart)["topwear"] < levels["face"]
    under_a_hat = masks | {"headwear": masks["face"]}
    assert levels["neck"] < drawing_levels(under_a_hat)["topwear"] < levels["face"]
    assert drawing_levels({}) == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("eyewear", "front hair"),
        ("headwear", "front hair"),
        ("headwear", "eyewear"),
        ("topwear", "front hair"),
        ("topwear", "back hair"),
        ("neck", "back hair"),
        ("eyebrow", "front hair"),
    ],
)
def test_the_drawing_order_varies(characters: list[Character], first: str, second: str) -> None:
    assert orders(characters, first, second) == {True, False}


@pytest.mark.parametrize(("first", "second"), [("face", "mouth"), ("neck", "face")])
def test_what_can_only_lie_one_way_does(
    characters: list[Character], first: str, second: str
) -> None:
    assert orders(characters, first, second) == {True}


def test_poses_vary(characters: list[Character]) -> None:
    faces = [layer for character in characters for layer in character.layers if layer.tag == "face"]
    opaque = [np.argwhere(face.rgba[..., 3] > 127) for face in faces]
    areas = np.array([len(points) for points in opaque])
    centres = np.array([points.mean(axis=0) for points in opaque])
    assert areas.max() > 1.6 * areas.min()
    assert (centres.std(axis=0) > 2).all()


def test_layers_are_whole_behind_what_covers_them(characters: list[Character]) -> None:
    """Skin has no hole where features, hair and clothes lie on it."""
    for character in characters:
        for layer in character.layers:
            if layer.tag in ("face", "neck"):
                opaque = (layer.rgba[..., 3] > 127).astype(np.uint8)
                outlines, _ = cv2.findContours(opaque, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                filled = cv2.drawContours(np.zeros_like(opaque), outlines, -1, 1, cv2.FILLED)
                assert (filled == opaque).all()


def test_features_are_opaque() -> None:
    character = draw_character(0, "train", 560)
    for layer in character.layers:
        if layer.tag in ("nose", "mouth", "irides", "eyebrow", "eyelash", "eyewhite"):
            assert layer.rgba[..., 3].max() == 255


def test_head_is_its_parts_over_each_other(characters: list[Character]) -> None:
    for character in characters[:20]:
        parts = [layer for layer in character.layers if layer.tag in HEAD_PARTS]
        flat, head = over(layer.rgba for layer in parts), character.head
        assert head is not None
        assert np.abs(flat[..., 3] * 255 - head.rgba[..., 3]).max() <= 0.5
        premultiplied = head.rgba[..., :3] * (head.rgba[..., 3:] / 255.0)
        assert np.abs(premultiplied - flat[..., :3]).max() <= 1.5


def rendered(svg: str) -> NDArray[np.float64]:
    return over([avatars._render(svg, 280)])


def test_the_split_body_is_the_artists_body() -> None:
    """Neck, ears and face over each other differ from the template's body at edges only."""
    document = pa.Avatar(style=pa.AvatarStyle.TRANSPARENT, skin_color=pa.SkinColor.LIGHT).render()
    template = ElementTree.fromstring(document)
    for group in list(template[-1]):
        if group.get("id") != "transparent_Body":
            template[-1].remove(group)
    skin = ("neck", "ears", "face")
    ours = "".join(avatars_parts.body(tag, "#EDB98A", "#000000") for tag in skin)
    theirs = rendered(ElementTree.tostring(template, encoding="unicode"))
    difference = np.abs(theirs - rendered(ours)).max(axis=-1)
    assert theirs[..., 3].mean() > 0.2
    assert difference.mean() < 0.27
    assert (difference > 16).mean() < 0.006


ALL_PARTS = [
    Part(folder, name)
    for folder, choices in {
        "hair": (*avatars._HAIR, *avatars._FRINGES, *avatars._BACK_HAIR),
        "hat": avatars._HATS,
        "clothes": avatars._CLOTHES,
        "accessories": avatars._GLASSES,
        "facial_hair": avatars._BEARDS,
        "eyes": avatars._EYES,
        "mouth": avatars._MOUTHS,
        "eyebrows": avatars._BROWS,
        "nose": avatars._NOSES,
    }.items()
    for name in sorted(set(choices))
]


@pytest.mark.parametrize("part", ALL_PARTS, ids=lambda part: f"{part.folder}-{part.name}")
def test_every_part_draws_its_tags(part: Part) -> None:
    found = avatars_parts.fragments(part)
    assert set(found) <= set(TAGS_V3)
    for svg in found.values():
        svg = svg.replace(avatars_parts.COLOR, "#336699").replace(avatars_parts.INK, "#663311")
        assert "@" not in svg
        assert rendered(svg)[..., 3].max() > 0.5


@pytest.mark.parametrize(
    ("part", "tags"),
    [
        (Part("hair", "frida"), {"front hair", "headwear", "earwear"}),
        (Part("hair", "fro_band"), {"front hair", "headwear"}),
        (Part("clothes", "shirt_wick"), {"topwear", "neckwear"}),
        (Part("eyes", "surprised"), {"eyewhite", "irides"}),
        (Part("eyes", "squint"), {"eyewhite", "irides"}),
        (Part("eyes", "wink_wacky"), {"eyewhite", "irides", "eyelash"}),
        (Part("eyes", "closed"), {"eyelash"}),
        (Part("facial_hair", "beard_light"), {"face"}),
    ],
)
def test_separate_shapes_get_separate_tags(part: Part, tags: set[str]) -> None:
    assert set(avatars_parts.fragments(part)) == tags
