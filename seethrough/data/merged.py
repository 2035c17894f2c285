"""V2's `hair` and `eyes`, which samples lack: the published renderer writes V3's layers alone."""

from collections.abc import Collection
from itertools import chain

import attrs
import numpy as np

from seethrough.data.crops import union_box
from seethrough.data.layout import Sample
from seethrough.data.tags import STORED_MASK_ORDER, V2_PARTS


@attrs.frozen
class MergedSample(Sample):
    """A sample that also has the layers which its own make up, by their V2 tags.

    `boxes` holds them too. What lies on disk is `stored`'s.
    """

    stored: Sample
    """The sample as it is on disk."""

    def layer(self, tag: str) -> np.ndarray:
        """Decode a layer, or draw one from its parts: (h, w, 4) uint8 RGBA, straight alpha."""
        if tag in self.stored.boxes:
            return self.stored.layer(tag)
        left, top, right, bottom = self.boxes[tag]
        color = np.zeros((bottom - top, right - left, 3), np.float32)
        alpha = np.zeros((bottom - top, right - left, 1), np.float32)
        for part in self._parts(tag):
            x1, y1, x2, y2 = self.stored.boxes[part]
            rgba = self.stored.layer(part).astype(np.float32) / 255
            here = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
            behind = 1 - rgba[..., 3:]
            color[here] = rgba[..., :3] * rgba[..., 3:] + color[here] * behind
            alpha[here] = rgba[..., 3:] + alpha[here] * behind
        color = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
        return np.rint(np.clip(np.dstack([color, alpha]), 0, 1) * 255).astype(np.uint8)

    def depth(self, tag: str | None = None) -> np.ndarray:
        """Decode a layer's depth, or the page's, or draw one from its parts: (h, w), 0 is empty.

        Where parts overlap it is that of the part whose colour `layer` shows.
        """
        if tag is None or tag in self.stored.boxes:
            return self.stored.depth(tag)
        left, top, right, bottom = self.boxes[tag]
        levels = np.zeros((bottom - top, right - left), np.uint16)
        for part in self._parts(tag):
            x1, y1, x2, y2 = self.stored.boxes[part]
            level = self.stored.depth(part)
            here = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
            np.copyto(levels[here], level, where=level > 0)
        return levels

    def masks(self, tags: Collection[str] = STORED_MASK_ORDER) -> dict[str, np.ndarray]:
        """Decode the visible masks of some tags: (H, W) bool; of a merged one, where a part is."""
        parts = {tag: self._parts(tag) for tag in tags}
        stored = self.stored.masks(dict.fromkeys(chain.from_iterable(parts.values())))
        return {
            tag: np.logical_or.reduce([stored[part] for part in found])
            for tag, found in parts.items()
        }

    def bytes_hash(self) -> str:
        """Hash the bytes of the page, the annotation and every stored layer: 32 hex digits."""
        return self.stored.bytes_hash()

    def depths_hash(self) -> str:
        """Hash the bytes of the depths of the page and of every stored layer: 32 hex digits."""
        return self.stored.depths_hash()

    def _parts(self, tag: str) -> list[str]:
        """The stored tags that a tag is made of, from back to front; itself if it is stored."""
        if tag in self.stored.boxes or tag not in V2_PARTS:
            return [tag]
        return [part for part in V2_PARTS[tag] if part in self.stored.boxes]


def merged(sample: Sample) -> Sample:
    """Give a sample the V2 layers that it lacks but has parts of; any other as it is."""
    boxes = dict(sample.boxes)
    for tag, parts in V2_PARTS.items():
        found = [sample.boxes[part] for part in parts if part in sample.boxes]
        if tag not in boxes and sample.size is not None and found:
            boxes[tag] = union_box(found, *sample.size)
    if len(boxes) == len(sample.boxes):
        return sample
    return MergedSample(sample.page_path, sample.size, boxes, sample.layer_alpha, sample)
