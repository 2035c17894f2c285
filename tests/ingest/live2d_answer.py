"""An answer as the Cubism Core gives it, of a model made of rectangles; no model is needed."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from seethrough.ingest.live2d_core import Answer

WIDTH, HEIGHT = 40, 30
"""Canvas in px; its origin is the upper left corner, and a unit is 10 px."""
UNIT = 10
TRIANGLES = (0, 1, 2, 0, 2, 3)


@attrs.frozen(kw_only=True)
class Rectangle:
    """A drawable; its box is in px, and the same box of its texture is drawn there."""

    id: str
    box: tuple[float, float, float, float]
    part: int = 0
    order: int | None = None
    masks: tuple[int, ...] = ()
    flags: int = 4
    blend: int = 0
    opacity: float = 1.0
    visible: bool = True
    texture: int = 0
    multiply: tuple[float, ...] = (1, 1, 1, 1)
    screen: tuple[float, ...] = (0, 0, 0, 1)
    triangles: tuple[int, ...] = TRIANGLES


@attrs.frozen(kw_only=True)
class Group:
    """An offscreen, of the part with the same index."""

    blend: int = 0
    opacity: float = 1.0
    masks: tuple[int, ...] = ()
    multiply: tuple[float, ...] = (1, 1, 1, 1)


def answer(
    rectangles: Sequence[Rectangle],
    parts: Sequence[tuple[str, int]] = (("PartHead", -1), ("PartFace", 0)),
    groups: Sequence[Group] = (),
) -> Answer:
    """What the Core would say of rectangles; parts are ids and the index of the one around."""
    corners = [np.array(item.box)[[0, 1, 0, 3, 2, 3, 2, 1]].reshape(4, 2) for item in rectangles]
    points = np.concatenate(corners)
    count = len(rectangles)
    return {
        "canvas": np.array([WIDTH, HEIGHT, 0, HEIGHT, UNIT], float),
        "drawable_ids": np.array([item.id for item in rectangles]),
        "part_ids": np.array([name for name, _ in parts]),
        "parameter_ids": np.array(["ParamAngleX"]),
        "texture": np.array([item.texture for item in rectangles]),
        "flags": np.array([item.flags for item in rectangles], np.uint8),
        "blend": np.array([item.blend for item in rectangles]),
        "part": np.array([item.part for item in rectangles]),
        "part_parent": np.array([parent for _, parent in parts]),
        "part_offscreen": np.array(
            [at if at < len(groups) else -1 for at in range(len(parts))], np.int32
        ),
        "offscreen_blend": np.array([group.blend for group in groups], np.int32),
        "offscreen_flags": np.zeros(len(groups), np.uint8),
        "offscreen_mask": _joined([group.masks for group in groups]),
        "offscreen_mask_count": np.array([len(group.masks) for group in groups], np.int64),
        "mask": _joined([item.masks for item in rectangles]),
        "mask_count": np.array([len(item.masks) for item in rectangles]),
        # v points up.
        "uv": points / (WIDTH, HEIGHT) * (1, -1) + (0, 1),
        "uv_count": np.full(count, 4),
        "index": _joined([item.triangles for item in rectangles]),
        "index_count": np.array([len(item.triangles) for item in rectangles]),
        "0/position": points * (1, -1) / UNIT,
        "0/opacity": np.array([item.opacity for item in rectangles]),
        "0/dynamic": np.array([int(item.visible) for item in rectangles], np.uint8),
        "0/multiply": np.array([item.multiply for item in rectangles]),
        "0/screen": np.array([item.screen for item in rectangles]),
        "0/order": np.array(
            [at if item.order is None else item.order for at, item in enumerate(rectangles)]
        ),
        "0/offscreen_opacity": np.array([group.opacity for group in groups]),
        "0/offscreen_multiply": np.array([group.multiply for group in groups]).reshape(-1, 4),
        "0/offscreen_screen": np.tile([0.0, 0, 0, 1], (len(groups), 1)),
    }


def _joined(rows: Sequence[tuple[int, ...]]) -> np.ndarray:
    return np.array([value for row in rows for value in row], np.int32)
