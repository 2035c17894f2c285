"""What decomposing a page gives: its layers on a square canvas, and their place on the page."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from seethrough.data.layout import Box
from seethrough.inference.composite import DRAWING_ORDER, Image8, drawing_order, flatten
from seethrough.inference.head_crop import Square
from seethrough.inference.resample import resample


@attrs.frozen(eq=False)
class Decomposition:
    """A page's layers on its canvas: the page centred on a square and resized to R x R pixels."""

    page: Image8
    """The page on the canvas: (R, R, 4) straight RGBA, transparent around it."""
    layers: dict[str, Image8]
    """By tag, in the order of the passes, `head` among them in the V3 flow; (R, R, 4) straight
    RGBA each.

    A tag that the page lacks has an empty or nearly empty layer.
    """
    canvas: Square
    """Where the page lies on the canvas: `canvas.content` is its box there."""
    head_box: Box | None = None
    """What the head pass saw, in pixels of the page; None for what the body pass saw."""
    note: str | None = None
    """What a reader of the layers should know: that no head was found."""

    def drawn(self, order: Sequence[str] = DRAWING_ORDER) -> dict[str, Image8]:
        """The layers from back to front, without `head`, which repeats its parts."""
        return {tag: self.layers[tag] for tag in drawing_order(self.layers, order)}

    def recomposition(self, order: Sequence[str] = DRAWING_ORDER) -> Image8:
        """The layers over each other, (R, R, 4) straight RGBA."""
        height, width = self.page.shape[:2]
        return flatten(self.drawn(order).values(), (height, width)).straight()

    def on_page(self, tag: str) -> Image8:
        """A layer in the page's own pixels and size, (H, W, 4) straight RGBA.

        The canvas decides how fine it is: a page larger than R is no sharper for it.
        """
        return resample(
            self.layers[tag], self.canvas.content, (self.canvas.width, self.canvas.height)
        )
