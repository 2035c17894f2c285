"""Layers in nested groups, as painting programs keep them, made into a flat list.

What a group does to its layers is written into each of them: its path, opacity, mask, visibility,
blend mode and clip. For a group of several layers that lie over each other and whose opacity is
below 1, or whose blend mode isn't normal, that is an approximation, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import attrs
import numpy as np

from seethrough.characters.form import Image8
from seethrough.characters.write import NewLayer

Clips = Literal["none", "base", "below"]
"""What a node is clipped to: nothing, the nearest node below it in its group that isn't clipped
itself, or all visible ones below it in its group."""

Pixels = Callable[[], Image8]
Mask = Callable[[tuple[int, int, int, int]], np.ndarray]
"""How much a mask leaves of a box of the canvas: (h, w) float32 in [0, 1]."""


@attrs.frozen(kw_only=True, eq=False)
class Leaf:
    """A layer with pixels."""

    name: str
    corner: tuple[int, int]
    """x and y on the canvas."""
    rgba: Pixels
    """Decodes it, straight; a mask of its own is in its alpha."""
    blend: str = "normal"
    opacity: float = 1.0
    visible: bool = True
    clips: Clips = "none"


@attrs.frozen(kw_only=True, eq=False)
class Group:
    """A group, its children from back to front."""

    name: str
    children: Sequence[Leaf | Group]
    blend: str | None = None
    """None passes through: its layers are drawn as if they lay outside of it."""
    opacity: float = 1.0
    visible: bool = True
    clips: Clips = "none"
    mask: Mask | None = None


@attrs.frozen
class _Inherited:
    """What all groups around a node do to it."""

    path: tuple[str, ...] = ()
    blend: str = "normal"
    opacity: float = 1.0
    visible: bool = True
    clip: tuple[int, ...] = ()
    masks: tuple[Mask, ...] = ()


@attrs.frozen
class _Placed:
    leaf: Leaf
    inherited: _Inherited
    own_clip: tuple[int, ...]
    atop: bool


def flat_layers(root: Sequence[Leaf | Group], notes: list[str]) -> Iterator[NewLayer]:
    """The layers from back to front, decoded one at a time.

    Args:
        root: the outermost layers and groups, from back to front.
        notes: where approximations are told.
    """
    placed: list[_Placed] = []
    _place(root, _Inherited(), placed, notes)
    # The list is whole before the first is decoded: clips may be to any of it.
    return (_layer(item, placed, notes) for item in placed)


def _place(
    nodes: Sequence[Leaf | Group], around: _Inherited, placed: list[_Placed], notes: list[str]
) -> None:
    base: tuple[Leaf | Group, tuple[int, ...]] | None = None
    below: list[tuple[Leaf | Group, tuple[int, ...]]] = []
    for node in nodes:
        own, opacity, visible, atop = (), node.opacity, node.visible, False
        if node.clips == "base" and base is not None:
            under, own = base
            # Clipped layers are one with their base: they are hidden and thinned with it.
            opacity, visible = opacity * under.opacity, visible and under.visible and bool(own)
            atop = isinstance(under, Leaf) and isinstance(node, Leaf) and not around.clip
        elif node.clips == "below" and below:
            shown = [(under, indices) for under, indices in below if under.visible]
            own = tuple(index for _, indices in shown for index in indices)
            visible = visible and bool(own)
            if any(under.opacity < 1 for under, _ in shown):
                notes.append(f"{_name(around, node)}: is clipped as if all below were opaque")
        first = len(placed)
        inherited = attrs.evolve(
            around, opacity=around.opacity * opacity, visible=around.visible and visible
        )
        if isinstance(node, Group):
            _place_group(node, inherited, own, placed, notes)
        else:
            placed.append(_Placed(node, inherited, own, atop))
        indices = tuple(range(first, len(placed)))
        below.append((node, indices))
        if node.clips != "base":
            base = node, indices


def _place_group(
    group: Group,
    inherited: _Inherited,
    own_clip: tuple[int, ...],
    placed: list[_Placed],
    notes: list[str],
) -> None:
    name = _name(inherited, group)
    if len(group.children) > 1 and group.opacity < 1:
        notes.append(f"{name}: its opacity is given to each of its layers")
    if group.blend not in (None, "normal"):
        notes.append(f"{name}: its blend mode, {group.blend}, is given to each of its layers")
    if group.blend is not None and any(
        child.blend not in (None, "normal") for child in group.children
    ):
        notes.append(f"{name}: its layers blend with what lies below the group, too")
    inner = attrs.evolve(
        inherited,
        path=(*inherited.path, group.name),
        blend=inherited.blend if group.blend in (None, "normal") else group.blend,
        clip=inherited.clip or own_clip,
        masks=(*inherited.masks, *([group.mask] if group.mask else [])),
    )
    if own_clip and inherited.clip:
        # Two clips at once: the group's own becomes a mask.
        inner = attrs.evolve(inner, masks=(*inner.masks, _clip_mask(own_clip, placed)))
    _place(group.children, inner, placed, notes)


def _name(around: _Inherited, node: Leaf | Group) -> str:
    return "/".join((*around.path, node.name))


def _layer(item: _Placed, placed: Sequence[_Placed], notes: list[str]) -> NewLayer:
    leaf, around = item.leaf, item.inherited
    rgba = leaf.rgba()
    # Masks of groups thin the base, and what lies atop of it with it.
    masks = () if item.atop else around.masks
    if item.own_clip and around.clip:
        masks = (*masks, _clip_mask(item.own_clip, placed))
    if masks and rgba.size:
        x, y = leaf.corner
        box = x, y, x + rgba.shape[1], y + rgba.shape[0]
        alpha = rgba[..., 3].astype(np.float32)
        for mask in masks:
            alpha *= mask(box)
        rgba = np.dstack([rgba[..., :3], np.rint(alpha).astype(np.uint8)])
    return NewLayer(
        path=(*around.path, leaf.name),
        corner=leaf.corner,
        rgba=rgba,
        blend=leaf.blend if leaf.blend != "normal" else around.blend,
        opacity=around.opacity,
        clip=around.clip or item.own_clip,
        visible=around.visible,
        atop=item.atop,
    )


def _clip_mask(clip: tuple[int, ...], placed: Sequence[_Placed]) -> Mask:
    """The union of some layers' alpha as a mask."""

    def mask(box: tuple[int, int, int, int]) -> np.ndarray:
        left = np.ones((box[3] - box[1], box[2] - box[0]), np.float32)
        for index in clip:
            leaf = placed[index].leaf
            left *= 1 - paste(leaf.rgba()[..., 3], leaf.corner, box, 0) / np.float32(255)
        return 1 - left

    return mask


def paste(
    plane: np.ndarray, corner: tuple[int, int], box: tuple[int, int, int, int], outside: float
) -> np.ndarray:
    """A plane (h, w) that lies at a corner, as seen through a box; `outside` where it isn't."""
    result = np.full((box[3] - box[1], box[2] - box[0]), outside, np.float32)
    x, y = corner[0] - box[0], corner[1] - box[1]
    rows = slice(max(y, 0), max(min(y + plane.shape[0], result.shape[0]), 0))
    columns = slice(max(x, 0), max(min(x + plane.shape[1], result.shape[1]), 0))
    part = plane[max(-y, 0) :, max(-x, 0) :]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height > 0 and width > 0:
        result[rows, columns] = part[:height, :width]
    return result
