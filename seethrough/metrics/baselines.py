"""What a system must beat: predictions made from training characters without looking closely.

Layers are straight RGBA, (R, R, 4) uint8, all on canvases of one size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Image8 = npt.NDArray[np.uint8]


def mean_layers(
    characters: Iterable[Mapping[str, Image8]],
    tags: Sequence[str],
    min_presence: float = 0.5,
) -> dict[str, Image8]:
    """Average each tag's layer over the training characters that have it.

    The same layers are then predicted for every page. Colour is averaged with alpha as weight;
    where no character has any, it is the tag's mean colour. A tag is predicted only if more than
    `min_presence` of the characters have it: 0 predicts every tag that was ever seen, which
    gives the best IoU and a false layer for every absent tag.
    """
    count = 0
    present = dict.fromkeys(tags, 0)
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for layers in characters:
        count += 1
        for tag in tags:
            if (layer := layers.get(tag)) is None:
                continue
            present[tag] += 1
            weighted = layer.astype(np.float64)
            weighted[..., :3] *= weighted[..., 3:] / 255
            if tag in sums:
                sums[tag] += weighted
            else:
                sums[tag] = weighted
    return {
        tag: _mean_layer(total, present[tag])
        for tag, total in sums.items()
        if present[tag] > min_presence * count
    }


def _mean_layer(total: npt.NDArray[np.float64], count: int) -> Image8:
    color, weight = total[..., :3], total[..., 3:] / 255
    everywhere = color.sum(axis=(0, 1)) / max(float(weight.sum()), 1e-9)
    mean_color = np.divide(
        color, weight, out=np.broadcast_to(everywhere, color.shape).copy(), where=weight > 0
    )
    alpha = total[..., 3:] / count
    return np.rint(np.concatenate([mean_color, alpha], axis=-1)).astype(np.uint8)


class NearestCharacter:
    """Finds the training page that looks most alike; its layers are the prediction."""

    def __init__(self, pages: Iterable[Image8]) -> None:
        """Keep the training pages, (R, R, 4) straight RGBA; only the character counts."""
        self._pages = [_character(page) for page in pages]
        if not self._pages:
            raise ValueError("no training page to look for the nearest in")

    def index(self, page: Image8) -> int:
        """The training page with the least squared difference of premultiplied RGBA.

        The first of several equal ones.
        """
        character = _character(page).astype(np.int32)
        distances = [int(np.square(known - character).sum()) for known in self._pages]
        return int(np.argmin(distances))


def _character(page: Image8) -> Image8:
    """The page premultiplied: its background is not part of the character."""
    result = page.copy()
    alpha = page[..., 3:].astype(np.uint16)
    result[..., :3] = (page[..., :3] * alpha + 127) // 255
    return result
