"""Nested groups made into a flat list: what a group does is written into its layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seethrough.characters.write import NewLayer
from seethrough.ingest.tree import Group, Leaf, flat_layers, paste
from tests.ingest.command import block


def leaf(name: str, width: int = 4, corner: tuple[int, int] = (0, 0), **given: Any) -> Leaf:
    return Leaf(name=name, corner=corner, rgba=lambda: block((9, 9, 9), width, 2), **given)


def group(name: str, *children: Leaf | Group, **given: Any) -> Group:
    return Group(name=name, children=children, **given)


def flat(*root: Leaf | Group) -> tuple[list[NewLayer], list[str]]:
    notes: list[str] = []
    return list(flat_layers(root, notes)), notes


def test_path_opacity_and_visibility_come_from_all_groups_around() -> None:
    inner = group("inner", leaf("a", opacity=0.5), visible=False)
    (layer,), notes = flat(group("outer", inner, opacity=0.5))
    assert (layer.path, layer.opacity, layer.visible) == (("outer", "inner", "a"), 0.25, False)
    assert not notes, "of one layer this is exact"


def test_what_is_only_approximate_is_told() -> None:
    (first, _), notes = flat(group("g", leaf("a"), leaf("b"), opacity=0.5, blend="multiply"))
    assert (first.blend, first.opacity) == ("multiply", 0.5)
    assert [note.split(":")[0] for note in notes] == ["g", "g"]
    _, notes = flat(group("g", leaf("a", blend="screen"), blend="normal"))
    assert notes == ["g: its layers blend with what lies below the group, too"]
    _, notes = flat(group("g", leaf("a", blend="screen")))
    assert not notes, "a group that passes through hides nothing"


def test_a_groups_mask_thins_its_layers() -> None:
    def mask(box: tuple[int, int, int, int]) -> np.ndarray:
        x = np.arange(box[0], box[2]) / 10
        return np.broadcast_to(x, (box[3] - box[1], len(x)))

    (layer,), _ = flat(group("g", leaf("a", corner=(2, 0)), mask=mask))
    assert layer.rgba[0, :, 3].tolist() == [51, 76, 102, 128]


def test_clipping_to_a_base_to_a_group_and_to_nothing() -> None:
    layers, _ = flat(
        leaf("first", clips="base"),
        group("base", leaf("a"), leaf("b"), opacity=0.5),
        leaf("one", clips="base"),
        leaf("two", clips="base"),
        group("empty"),
        leaf("on empty", clips="base"),
    )
    assert [layer.clip for layer in layers] == [(), (), (), (1, 2), (1, 2), ()]
    assert [layer.visible for layer in layers] == [True] * 5 + [False]
    assert layers[3].opacity == 0.5, "thinned with its base"
    assert not any(layer.atop for layer in layers), "atop of one layer only"
    (_, top), _ = flat(leaf("base"), leaf("top", clips="base"))
    assert top.atop


def test_clipping_to_all_below_leaves_out_what_is_hidden() -> None:
    layers, _ = flat(leaf("a"), leaf("b", visible=False), leaf("c"), leaf("d", clips="below"))
    assert layers[3].clip == (0, 2)
    layers, _ = flat(leaf("a", visible=False), leaf("b", clips="below"))
    assert not layers[1].visible


def test_of_two_clips_the_inner_goes_into_alpha() -> None:
    layers, _ = flat(
        leaf("base", width=8),
        group("g", leaf("inner", width=2), leaf("top", clips="base"), clips="base"),
    )
    base, inner, top = layers
    assert (base.clip, inner.clip, top.clip) == ((), (0,), (0,))
    assert top.rgba[0, :, 3].tolist() == [255, 255, 0, 0] and not top.atop


@pytest.mark.parametrize(
    ("corner", "expected"),
    [((0, 0), [1, 1, 7, 7]), ((-1, 0), [1, 7, 7, 7]), ((3, 0), [7, 7, 7, 1]), ((9, 9), [7] * 4)],
)
def test_a_plane_through_a_box(corner: tuple[int, int], expected: list[int]) -> None:
    assert paste(np.ones((1, 2)), corner, (0, 0, 4, 1), 7)[0].tolist() == expected
