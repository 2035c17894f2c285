"""Parts: a character's layers as they go into the PSD, each cut to its box, with its depth."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from seethrough.data.layout import Box
from seethrough.inference.composite import Image8


@attrs.frozen(eq=False, kw_only=True)
class Part:
    """A layer, or what a split made of one, cut to its box. Lists of parts run back to front."""

    tag: str
    """The body-part tag that it belongs to."""
    name: str
    """Name of its layer in the PSD, unique there: the tag, and after a split a suffix."""
    box: Box
    """Where it lies on the canvas, in pixels: (left, top, right, bottom), end-exclusive."""
    rgba: Image8
    """(h, w, 4), straight alpha; h and w are the box's."""
    depth: npt.NDArray[np.float32]
    """(h, w) in [0, 1], 0 near; 1 where the part is not."""
    depth_median: float
    """Its place in the drawing order, in [0, 1]: the larger, the farther."""
