"""V2's layers made from V3's."""

from pathlib import Path

import numpy as np

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.layout import read_sample
from seethrough.data.merged import merged
from seethrough.data.tags import TAGS_V2
from tests.samples import write_list, write_sample

BOXES = {
    "back hair": (4, 2, 30, 30),
    "front hair": (10, 6, 36, 20),
    "eyewhite": (12, 12, 20, 18),
    "face": (8, 8, 28, 28),
}


def test_hair_and_eyes_are_drawn_from_their_parts(tmp_path: Path) -> None:
    stored = read_sample(write_sample(tmp_path, "page", tags=BOXES))
    sample = merged(stored)
    assert set(sample.boxes) == {*BOXES, "hair", "eyes"}
    assert sample.boxes["hair"] == (4, 2, 36, 30) and sample.boxes["eyes"] == BOXES["eyewhite"]
    # One part is the layer; others stay as they are.
    assert np.array_equal(sample.layer("eyes"), visible_colour(stored.layer("eyewhite")))
    assert np.array_equal(sample.layer("face"), stored.layer("face"))
    hair = sample.layer("hair") / 255
    back, front = np.zeros((2, 28, 32, 4))
    back[:, :26], front[4:18, 6:] = (
        stored.layer("back hair") / 255,
        stored.layer("front hair") / 255,
    )
    alpha = front[..., 3:] + back[..., 3:] * (1 - front[..., 3:])
    colour = front[..., :3] * front[..., 3:] + back[..., :3] * back[..., 3:] * (1 - front[..., 3:])
    assert np.abs(hair[..., 3:] - alpha).max() <= 1 / 255
    assert np.abs(hair[..., :3] * hair[..., 3:] - colour).max() <= 1 / 255


def test_a_merged_layer_is_seen_where_a_part_is(tmp_path: Path) -> None:
    stored = read_sample(write_sample(tmp_path, "page", tags=BOXES))
    masks, own = merged(stored).masks(["hair", "face"]), stored.masks()
    assert set(masks) == {"hair", "face"}
    assert np.array_equal(masks["hair"], own["back hair"] | own["front hair"])
    assert np.array_equal(masks["face"], own["face"])


def test_a_merged_depth_is_that_of_the_part_on_top(tmp_path: Path) -> None:
    stored = read_sample(write_sample(tmp_path, "page", tags=BOXES))
    sample = merged(stored)
    levels = np.zeros((28, 32), np.uint16)
    levels[:, :26] = stored.depth("back hair")
    front = stored.depth("front hair")
    levels[4:18, 6:][front > 0] = front[front > 0]
    assert np.array_equal(sample.depth("hair"), levels)
    assert set(np.unique(levels)) == {0, 1, 2}
    for tag in ("face", None):
        assert np.array_equal(sample.depth(tag), stored.depth(tag))


def test_its_bytes_are_those_on_disk(tmp_path: Path) -> None:
    stored = read_sample(write_sample(tmp_path, "page", tags=BOXES))
    assert merged(stored).bytes_hash() == stored.bytes_hash()


def test_a_sample_without_parts_or_with_the_layer_itself_stays_as_it_is(tmp_path: Path) -> None:
    plain = read_sample(write_sample(tmp_path, "plain", tags=("face", "hair")))
    assert merged(plain) is plain
    own = {"hair": (0, 0, 20, 20), "front hair": (2, 2, 20, 20)}
    stored = read_sample(write_sample(tmp_path, "own", tags=own))
    assert merged(stored) is stored


def test_datasets_train_on_them(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "page", tags=BOXES)
    dataset = LayerDiff3DDataset(
        sources=[(write_list(tmp_path / "list.txt", [page]), 1)],
        groups=(TAGS_V2,),
        target_size=64,
        global_batch=1,
        random_flip=0.0,
        random_pad_prob=0.0,
    )
    draw = Draw(seed=0, stage="test", step=0, index=0, sample=0)
    item = dataset.item(draw)
    assert [tag for tag in item.frames if tag] == ["hair", "face", "eyes"]
    assert item.picture("hair")[0].any()
    one_tag = LayerDiff2DDataset(
        sources=dataset.sources,
        target_size=64,
        random_flip=0.0,
        random_pad_prob=0.0,
        tag_list=["hair"],
    )
    assert one_tag.item(draw).text["caption"] == "hair"


def visible_colour(layer: np.ndarray) -> np.ndarray:
    """The layer, black where it is transparent."""
    return np.where(layer[..., 3:] > 0, layer, 0).astype(np.uint8)
