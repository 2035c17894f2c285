"""Pairs of overlapping layers, and which share of them a prediction orders right."""

from pathlib import Path

import numpy as np
import pytest

from seethrough.data.layout import Sample, read_sample
from seethrough.metrics.depth_order import (
    DepthOrder,
    pair_orders,
    tag_depths,
    varying_pairs,
)
from tests.samples import annotation, write_json, write_png, write_sample

BOXES = {
    "face": (4, 4, 24, 24),
    "front hair": (2, 2, 26, 14),
    "back hair": (0, 0, 30, 30),
    "topwear": (20, 20, 38, 38),
    "footwear": (36, 36, 40, 40),
}


def character(folder: Path, **levels: int) -> Sample:
    """Opaque layers of `BOXES`, each at one level (larger nearer), named with `_` for blanks."""
    boxes = {tag.replace("_", " "): BOXES[tag.replace("_", " ")] for tag in levels}
    write_png(folder / "c.png", np.full((40, 40, 4), 255, np.uint8))
    for tag, level in zip(boxes, levels.values(), strict=True):
        x1, y1, x2, y2 = boxes[tag]
        write_png(folder / f"c_{tag}.png", np.full((y2 - y1, x2 - x1, 4), 255, np.uint8))
        write_png(folder / f"c_{tag}_depth.png", np.full((y2 - y1, x2 - x1), level, np.uint8))
    write_json(folder / "c_ann.json", annotation((40, 40), boxes))
    return read_sample(folder / "c.png")


def test_order_of_overlapping_pairs(tmp_path: Path) -> None:
    sample = character(tmp_path, face=2, front_hair=3, back_hair=1, topwear=4, footwear=5)
    assert pair_orders(sample) == {
        ("face", "front hair"): False,
        ("back hair", "face"): False,
        ("back hair", "front hair"): False,
        ("back hair", "topwear"): False,
        ("face", "topwear"): False,
        # footwear shares 2 x 2 pixels with topwear and none with the others
    }


def test_equal_levels_have_no_order(tmp_path: Path) -> None:
    assert pair_orders(character(tmp_path, face=2, front_hair=2)) == {}


def test_what_is_in_front_on_more_pixels_is_in_front(tmp_path: Path) -> None:
    sample = character(tmp_path, face=2, front_hair=3)
    depth = sample.depth("front hair").copy()
    depth[:, :20] = 1  # of the 20 columns that both have, the face's 4 to 21 lie before the hair
    write_png(tmp_path / "c_front hair_depth.png", depth)
    assert pair_orders(sample) == {("face", "front hair"): True}


def test_transparent_pixels_do_not_overlap(tmp_path: Path) -> None:
    sample = character(tmp_path, face=2, front_hair=3)
    layer = sample.layer("face").copy()
    layer[:10, :, 3] = 100
    write_png(tmp_path / "c_face.png", layer)
    assert pair_orders(sample) == {}


def test_head_is_left_out(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "a", tags={tag: (4, 4, 30, 30) for tag in ("face", "head")})
    assert pair_orders(read_sample(page)) == {}


def test_varying_pairs() -> None:
    a, b, c = ("ears", "face"), ("face", "nose"), ("face", "mouth")
    known = [{a: True, b: True}, {a: False, b: True, c: False}, {c: False}]
    assert varying_pairs(known) == {a}
    assert varying_pairs([]) == frozenset()


def test_shares_over_all_and_over_varying_pairs() -> None:
    metric = DepthOrder(frozenset({("ears", "face")}))
    orders = {("ears", "face"): True, ("face", "nose"): False, ("face", "mouth"): False}
    metric.update(orders, {"ears": 0.2, "face": 0.5, "nose": 0.1, "mouth": 0.7})
    metric.update({("ears", "face"): False}, {"ears": 0.2, "face": 0.5})
    scores = metric.compute()
    assert (scores.all_pairs, scores.varying_pairs) == (2 / 4, 1 / 2)
    assert (scores.pairs, scores.varying) == (4, 2)


def test_equal_depths_are_half_right_and_missing_layers_wrong() -> None:
    metric = DepthOrder(frozenset())
    orders = {("ears", "face"): True, ("face", "nose"): True}
    metric.update(orders, {"ears": 0.5, "face": 0.5})
    assert metric.compute().all_pairs == 0.25
    assert metric.compute().varying_pairs is None


@pytest.mark.parametrize(("hair_level", "share"), [(3, 1.0), (1, 0.0)])
def test_the_fixed_tag_order(tmp_path: Path, hair_level: int, share: float) -> None:
    metric = DepthOrder(frozenset())
    metric.update(pair_orders(character(tmp_path, face=2, front_hair=hair_level)), tag_depths())
    assert metric.compute().all_pairs == share
