"""What the model of depth looks at: the frames of a page, and the square that it sees of it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import cv2
import numpy as np

from seethrough.data.crops import fit_layer
from seethrough.data.layout import Box
from seethrough.data.tags import TAGS_V2, V2_PARTS
from seethrough.inference.composite import Image8, Plane, flatten

LEAST_ALPHA = 15
"""Alpha (0 to 255) below this becomes 0 before the network sees a layer, as published."""


def merge_frames(layers: Mapping[str, Image8], size: tuple[int, int]) -> dict[str, Image8]:
    """Layers of either version as V2's frames, in the order of `TAGS_V2`; absent ones are left out.

    A tag's own layer counts, or else its V3 parts over each other. Faint pixels become transparent.

    Raises:
        ValueError: when a layer is not (*size, 4).
    """
    frames: dict[str, Image8] = {}
    for tag in TAGS_V2:
        tags = [tag] if tag in layers else V2_PARTS.get(tag, ())
        parts = [_cleared(layers[part], size) for part in tags if part in layers]
        parts = [part for part in parts if part[..., 3].any()]
        if parts:
            frames[tag] = parts[0] if len(parts) == 1 else flatten(parts, size).straight()
    return frames


def _cleared(layer: Image8, size: tuple[int, int]) -> Image8:
    if layer.shape != (*size, 4):
        raise ValueError(f"a layer has shape {layer.shape}, the page {(*size, 4)}")
    result = layer.copy()
    alpha = cv2.extractChannel(result, 3)
    _, alpha = cv2.threshold(alpha, LEAST_ALPHA - 1, 0, cv2.THRESH_TOZERO)
    cv2.insertChannel(alpha, result, 3)
    return result


def where_layers(page: Image8, frames: Mapping[str, Image8]) -> Image8:
    """The page as the network sees it: where there is any layer."""
    alpha = np.zeros(page.shape[:2], np.uint16)
    for frame in frames.values():
        alpha += frame[..., 3]
    return np.dstack([page[..., :3], np.minimum(alpha, 255).astype(np.uint8)])


@attrs.frozen
class Place:
    """A square around the middle of a part of a page, seen at `resolution`."""

    width: int
    height: int
    """Of the page."""
    box: Box
    """The square, in pixels of the page; it may stick out."""
    resolution: int

    def fit(self, picture: Image8) -> Image8:
        """The picture as the network sees it."""
        whole = (0, 0, self.width, self.height)
        return fit_layer(picture, whole, self.box, self.resolution, flip=False)

    def back(self, depth: Plane) -> Plane:
        """What the network says, on the page again; 0 outside of the square."""
        left, top, right, bottom = self.box
        side = right - left
        if side != self.resolution:
            method = cv2.INTER_AREA if self.resolution > side else cv2.INTER_LINEAR
            depth = np.asarray(cv2.resize(depth, (side, side), interpolation=method), np.float32)
        page = np.zeros((self.height, self.width), np.float32)
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(right, self.width), min(bottom, self.height)
        page[y1:y2, x1:x2] = depth[y1 - top : y2 - top, x1 - left : x2 - left]
        return page
