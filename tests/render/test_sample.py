"""A sample, from the character's layers to the bytes of its files."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import attrs
import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from seethrough.characters.form import Character, read_character
from seethrough.characters.labels import Labels, write_labels
from seethrough.characters.write import NewLayer
from seethrough.data.layout import read_sample
from seethrough.data.tags import STORED_MASK_ORDER, TAGS_V2
from seethrough.errors import InputError
from seethrough.recipe import evolve
from seethrough.recipes.render import PageColour, PageGeometry
from seethrough.render.sample import Renderer, render_sample
from tests.render.art import EXACT, avatar, labelled, plain, stack_character, varied, written

COMPAT = evolve(EXACT, compat=True)
Stack = tuple[Character, Labels]
WHITE = (255, 255, 255, 255)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory):
    return stack_character(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def sample(stack: Stack):
    return render_sample(*stack, [], EXACT, 42, 0)


@pytest.fixture(scope="module")
def compat(stack: Stack):
    return render_sample(*stack, [], COMPAT, 42, 0)


def corner(sample) -> tuple[int, int]:
    """Where the stack's first pixel, of its long back hair, lies on the page."""
    return sample.layers["back hair"][0][:2]


def seen(sample) -> dict[str, int]:
    return {tag: int(mask.inside.sum()) for tag, mask in sample.masks.items()}


def test_page_is_the_union_of_the_layers_and_all_boxes_lie_on_it(sample) -> None:
    x, y = corner(sample)
    assert sample.page.shape[0] == 170 and 120 <= sample.page.shape[1] <= 170
    boxes = {tag: tuple(np.subtract(box, (x, y, x, y))) for tag, (box, _) in sample.layers.items()}
    assert boxes == {
        "front hair": (20, 10, 100, 35),
        "back hair": (0, 0, 120, 100),
        "face": (30, 20, 90, 90),
        "topwear": (20, 80, 100, 170),
        "footwear": (30, 130, 90, 170),
        "head": (30, 20, 90, 90),
    }


def test_visible_masks_count_what_no_layer_before_hides(sample, compat) -> None:
    expected = {
        "back hair": 6000,
        "topwear": 4200,
        "footwear": 2400,
        "legwear": 2400,
        "face": 4200,
        "front hair": 2000,
    }
    assert seen(compat) == expected
    assert seen(sample) == expected | {"head": 4200}


def test_levels_are_the_published_ones(sample) -> None:
    assert np.unique(sample.depth).tolist() in ([1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    levels = {tag: np.unique(depth).tolist() for tag, depth in sample.depths.items()}
    assert levels == {
        "back hair": [1],
        "topwear": [2],
        "footwear": [3],
        "face": [3, 4],
        "head": [3, 4],
        "front hair": [4, 5],
    }
    assert sample.depth.dtype == np.uint8


def test_layers_are_whole_behind_what_covers_them(sample, compat) -> None:
    _, hair = sample.layers["back hair"]
    assert hair.shape == (100, 120, 4) and (hair == (120, 60, 0, 255)).all()
    # The half-transparent band of the fringe: straight colour, or published: premultiplied.
    assert sample.layers["front hair"][1][20, 5].tolist() == [180, 90, 0, 128]
    assert compat.layers["front hair"][1][20, 5].tolist() == [90, 45, 0, 128]
    assert sample.annotation["layer_alpha"] == "straight"
    assert compat.annotation["layer_alpha"] == "premultiplied"


def test_page_shows_the_character_over_its_background_and_alpha_is_the_characters(
    sample, compat
) -> None:
    for one, fringe in ((sample, [215, 155, 100, 255]), (compat, [214, 154, 99, 255])):
        x, y = corner(one)
        assert one.page[y + 30, x + 35].tolist() == fringe
        beside = one.page[y + 165, x + 5]
        assert beside[3] == 0 and beside[:3].any()


def test_annotation_names_every_tag(sample, compat) -> None:
    info = sample.annotation["tag_info"]
    assert tuple(info) == STORED_MASK_ORDER
    assert {tag for tag in info if info[tag]["exists"]} == set(sample.layers)
    assert info["face"]["xyxy"] == list(sample.layers["face"][0])
    assert sample.annotation["final_size"] == list(sample.page.shape[:2])
    made_of = sample.annotation["render"]
    assert (made_of["seed"], made_of["index"], made_of["licence"]) == (42, 0, "CC0")
    published = compat.annotation["tag_info"]
    assert set(published) == {*TAGS_V2, "front hair", "back hair", "head"}
    assert not published["hair"]["exists"] and "valid" not in published["head"]


def test_masks_are_stored_in_the_published_order(sample, compat) -> None:
    stored = json.loads(compat.files()[".json"])
    assert len(stored) == 24
    marked = [
        tag for tag, mask in zip(STORED_MASK_ORDER, stored, strict=True) if "is_valid" in mask
    ]
    assert marked == ["footwear", "objects"]
    assert not coco.decode(stored[STORED_MASK_ORDER.index("head")]).any()
    ours = json.loads(sample.files()[".json"])
    assert coco.decode(ours[STORED_MASK_ORDER.index("head")]).sum() == 4200
    assert all(mask["is_valid"] for mask in ours)


def test_reader_of_samples_reads_back_what_was_drawn(sample, tmp_path: Path) -> None:
    for ending, content in sample.files().items():
        (tmp_path / (sample.name + ending)).write_bytes(content)
    read = read_sample(tmp_path / f"{sample.name}.png")
    assert np.array_equal(read.page(), sample.page)
    assert np.array_equal(read.depth(), sample.depth)
    masks = read.masks()
    for tag, (box, rgba) in sample.layers.items():
        assert read.boxes[tag] == box
        assert np.array_equal(read.layer(tag), rgba)
        assert np.array_equal(read.depth(tag), sample.depths[tag])
        assert masks[tag].sum() == sample.masks[tag].inside.sum()


def test_two_characters_never_share_a_name(stack: Stack, tmp_path: Path) -> None:
    other, labels = avatar(tmp_path, 0)
    names = {render_sample(*stack, [], EXACT, 0, index).name for index in range(3)}
    names.add(render_sample(other, labels, [], EXACT, 0, 0).name)
    assert len(names) == 4
    assert all(name.replace("-", "").isalnum() for name in names)


def _digest(sample) -> str:
    return hashlib.sha256(repr(sorted(sample.files().items())).encode()).hexdigest()


def test_a_sample_is_the_same_bytes_in_any_order_and_in_another_process(tmp_path: Path) -> None:
    character, labels = avatar(tmp_path, 3)
    write_labels(character.folder, labels)
    renderer = Renderer(character, labels, [], varied())
    there_and_back = [_digest(renderer.sample(7, index)) for index in (0, 1, 2, 1, 0)]
    assert there_and_back[:2] == there_and_back[:2:-1]
    assert len(set(there_and_back)) == 3
    assert _digest(renderer.sample(8, 0)) != there_and_back[0]
    # Renders no torch: a worker's memory is for pictures.
    script = (
        "import sys; from pathlib import Path\n"
        "from seethrough.characters.form import read_character\n"
        "from seethrough.characters.labels import read_labels\n"
        "from tests.render.art import varied\n"
        "from tests.render.test_sample import _digest\n"
        "from seethrough.render.sample import render_sample\n"
        f"folder = Path({str(character.folder)!r})\n"
        "character, labels = read_character(folder), read_labels(folder)\n"
        "print(_digest(render_sample(character, labels, [], varied(), 7, 1)))\n"
        "print('torch' in sys.modules)\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert other.stdout.split() == [there_and_back[1], "False"]


def test_changed_colours_keep_page_and_layers_together(tmp_path: Path) -> None:
    character, labels = avatar(tmp_path, 5)
    for index in range(4):
        sample = render_sample(character, labels, [], varied(), 0, index)
        seen_at = sample.masks["topwear"]
        (x, y, _, _), rgba = sample.layers["topwear"]
        opaque = seen_at.inside & (rgba[..., 3] == 255)
        here = sample.page[seen_at.box[1] : seen_at.box[3], seen_at.box[0] : seen_at.box[2]]
        before = np.abs(here[opaque][:, :3].astype(int) - rgba[opaque][:, :3])
        # Rims of what lies before it, thinner than what hides, tint few of the pixels.
        assert seen_at.box[:2] == (x, y) and np.mean(before.max(axis=1) > 1) < 0.2


def test_a_picture_stands_behind_and_is_named(stack: Stack, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((50, 90, 3), (200, 10, 20), np.uint8))
    sample = render_sample(*stack, [tmp_path / "blue.png"], EXACT, 0, 0)
    behind = sample.page[sample.page[..., 3] == 0]
    assert len(behind) and (behind == (20, 10, 200, 0)).all()
    assert sample.annotation["render"]["background"] == "blue.png"


def test_light_runs_on_from_one_layer_to_the_next(tmp_path: Path) -> None:
    gray = plain((0, 0, 60, 40), (120, 120, 120, 255))
    layers = {
        name: NewLayer(path=(name,), corner=(at, 0), rgba=gray)
        for name, at in (("left", 0), ("right", 60))
    }
    character = written(tmp_path, layers, (120, 40))
    labels = labelled({"left": "topwear", "right": "objects"})
    colour = PageColour(match=0.0, light=1.0, light_gain=(0.2, 1.8))
    for index in range(4):
        options = evolve(EXACT, colour=colour)
        sample = render_sample(character, labels, [], options, 0, index)
        rgb = sample.page[sample.page[..., 3] > 0].reshape(40, 120, 4)[..., :3].astype(int)
        assert rgb.std() > 1
        assert np.abs(np.diff(rgb, axis=1)).max() <= np.ceil(np.ptp(rgb) / 20)


def test_several_scales_are_drawn_of_one_character(stack: Stack) -> None:
    options = evolve(EXACT, geometry=PageGeometry(long_side=(20, 100)))
    sizes = {render_sample(*stack, [], options, 0, index).page.shape[0] for index in range(8)}
    assert len(sizes) > 3 and max(sizes) <= 150


def test_clips_opacity_and_hidden_layers_count(tmp_path: Path) -> None:
    box = (0, 0, 20, 20)
    layers = {
        "white": NewLayer(path=("white",), corner=(4, 4), rgba=plain((0, 0, 8, 8), WHITE)),
        "iris": NewLayer(
            path=("iris",), corner=(0, 0), rgba=plain(box, (0, 90, 0, 255)), clip=(0,), opacity=0.5
        ),
        "off": NewLayer(
            path=("off",), corner=(0, 0), rgba=plain(box, (1, 1, 1, 255)), visible=False
        ),
    }
    character = written(tmp_path, layers, (20, 20))
    labels = labelled({"white": "eyewhite", "iris": "irides", "off": "objects"})
    sample = render_sample(character, labels, [], EXACT, 0, 0)
    assert set(sample.layers) == {"eyewhite", "irides", "head"}
    box, iris = sample.layers["irides"]
    assert box == (0, 0, 8, 8) and (iris == (0, 90, 0, 128)).all()
    assert sample.page.shape == (8, 8, 4)


def test_a_layer_that_is_too_faint_to_be_seen_is_left_out_of_everything(tmp_path: Path) -> None:
    box = (0, 0, 10, 10)
    layers = {
        name: NewLayer(path=(name,), corner=(at, 0), rgba=plain(box, (9, 9, 9, alpha)))
        for name, at, alpha in (("solid", 0, 255), ("faint", 10, 25), ("thin", 0, 26))
    }
    character = written(tmp_path, layers, (20, 10))
    labels = labelled({"solid": "face", "faint": "tail", "thin": "wings"})
    sample = render_sample(character, labels, [], EXACT, 0, 0)
    assert set(sample.layers) == {"face", "wings", "head"}
    assert sample.page.shape[1] == 10


@pytest.mark.parametrize(
    ("tags", "flags", "says"),
    [
        ({}, {}, "no visible layer has a tag"),
        ({"PartFace/Face1": None}, {}, "no visible layer has a tag"),
        ({"PartFace/Face1": "face"}, {"valid": False}, "not valid"),
        ({"PartFace/Face9": "face"}, {}, "Face9"),
    ],
)
def test_a_character_that_cannot_be_drawn_is_refused(stack: Stack, tags, flags, says) -> None:
    with pytest.raises(InputError, match=says):
        render_sample(stack[0], attrs.evolve(labelled(tags), **flags), [], EXACT, 0, 0)


def test_a_broken_layer_is_named(tmp_path: Path) -> None:
    character, labels = stack_character(tmp_path)
    path = character.layers[3].file
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"0003\.png"):
        render_sample(read_character(character.folder), labels, [], EXACT, 0, 0)


def test_labels_of_tags_that_v3_splits_are_refused(stack: Stack) -> None:
    labels = attrs.evolve(
        labelled({"PartHair/HairFront1": "hair", "PartFace/Face1": "face"}), tag_set="v2"
    )
    with pytest.raises(InputError, match="front hair"):
        render_sample(stack[0], labels, [], EXACT, 0, 0)
