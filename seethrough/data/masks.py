"""Random changes of the mask of what is seen, so that a network learns not to trust its outline."""

from typing import Literal, get_args

import attrs
import cv2
import numpy as np

from seethrough.data.draws import Draw

Kind = Literal["erode", "dilate", "hole"]

RIM = 1 / 32
"""Widest change of an outline, as a share of the picture's side."""

HOLE = (1 / 16, 1 / 4)
"""Smallest and largest radius of a hole, likewise."""


@attrs.frozen
class MaskChange:
    """Eroded or dilated by a disc, or with one round hole."""

    kind: Kind
    """What happens to the mask."""
    size: float
    """In [0, 1): from the narrowest to the widest change."""
    place: float
    """In [0, 1): which of the mask's pixels, row by row, is the middle of the hole."""

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Change a mask: (T, T) bool -> the same; an empty mask stays empty."""
        seen = mask.astype(np.uint8)
        if self.kind == "hole":
            places = np.flatnonzero(seen)
            if places.size:
                y, x = divmod(int(places[int(self.place * places.size)]), seen.shape[1])
                share = HOLE[0] + self.size * (HOLE[1] - HOLE[0])
                cv2.circle(seen, (x, y), max(round(share * len(seen)), 1), 0, thickness=-1)
        else:
            radius = 1 + int(self.size * RIM * len(seen))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            change = cv2.erode if self.kind == "erode" else cv2.dilate
            seen = change(seen, disc)
        return seen.astype(bool)


def mask_change(draw: Draw, probability: float) -> MaskChange | None:
    """Choose a draw's change, each kind as likely as the others; None if it has none."""
    chance, kind, size, place = draw.numpy("mask").random(4).tolist()
    if chance >= probability:
        return None
    kinds: tuple[Kind, ...] = get_args(Kind)
    return MaskChange(kinds[int(kind * len(kinds))], size, place)
