"""The pieces of a sample: a character's labelled layers as they lie in its frame."""

from collections.abc import Callable
from fractions import Fraction

import attrs
import cv2
import numpy as np

from seethrough.characters.form import Character, CharacterLayer, clip_alpha
from seethrough.characters.labels import Labels
from seethrough.data.layout import Box
from seethrough.errors import InputError
from seethrough.render.geometry import (
    Frame,
    Image8,
    content_box,
    intersection,
    to_frame,
    union,
    window,
)


@attrs.frozen(eq=False)
class Piece:
    """A layer of a character in a frame."""

    tag: str
    """V3 tag."""
    blend: str
    """Blend mode, one of `seethrough.characters.blend.BLEND_MODES`."""
    box: Box
    """Where it lies in the frame: around all of its pixels with any alpha."""
    rgba: Image8
    """(h, w, 4) straight RGBA; colour 0 where alpha is 0. Opacity and clips are in its alpha."""

    @property
    def alpha(self) -> Image8:
        """(h, w)."""
        return self.rgba[..., 3]


def labelled_layers(character: Character, labels: Labels) -> list[tuple[CharacterLayer, str]]:
    """The layers that are drawn, back to front, with their V3 tags.

    Raises:
        InputError: when the labels keep the character out of renders, are in another tag set that
            can't be read as V3, or no layer is left.
    """
    if not labels.valid:
        raise InputError(
            f"{character.folder}: its labels say that it is not valid: it is left out of renders"
        )
    labels.check_layers((layer.id for layer in character.layers), character.folder)
    try:
        tags = labels.in_tag_set("v3")
    except InputError as error:
        raise InputError(f"{character.folder}: {error}") from error
    layers = [
        (layer, tag)
        for layer in character.layers
        if layer.visible and layer.opacity > 0 and (tag := tags.tag(layer.id)) is not None
    ]
    if not layers:
        raise InputError(
            f"{character.folder}: no visible layer has a tag: label it with"
            " python -m seethrough.label"
        )
    return layers


class Art:
    """A character's drawn layers: what of the source they take up, and their pieces in a frame.

    It keeps the pieces of the last frame that was asked for, at the frame's scale.
    """

    def __init__(self, character: Character, labels: Labels, seen_above: int) -> None:
        """Raises InputError as `labelled_layers`, and for a character beside its canvas."""
        self._character = character
        self._seen_above = seen_above
        self._layers = labelled_layers(character, labels)
        boxes = [box for layer, _ in self._layers if (box := self._canvas_box(layer))]
        if not boxes:
            raise self._nothing()
        # Holds at least what is drawn; clips, and layers that show nothing, may make it smaller.
        self._crop = union(boxes)
        self._made: tuple[Frame, list[Piece]] | None = None

    def pieces(self, scale: Callable[[Box], Fraction]) -> tuple[Frame, list[Piece]]:
        """The frame around all pieces, at the scale that `scale` gives it, and they, back to front.

        Raises InputError for pixels that can't be read, and when no pixel is left to draw.
        """
        while True:
            frame = Frame(self._crop, scale(self._crop))
            if self._made is None or self._made[0] != frame:
                self._made = None  # Not two frames' pieces at once.
                contents, pieces = self._load(frame)
                if not pieces:
                    raise self._nothing()
                self._made = frame, pieces
                self._crop = union(contents)
            if self._crop == frame.crop:
                return self._made

    def _load(self, frame: Frame) -> tuple[list[Box], list[Piece]]:
        """The boxes of the layers' content in the source, and their pieces."""
        contents: list[Box] = []
        pieces: list[Piece] = []
        for layer, tag in self._layers:
            box = self._canvas_box(layer)
            if box is None:
                continue
            rgba = self._pixels(layer, box)
            content = content_box(cv2.extractChannel(rgba, 3))
            if content is None or not (rgba[..., 3] > self._seen_above).any():
                continue
            x1, y1, x2, y2 = content
            corner = x1 + box[0], y1 + box[1]
            contents.append((*corner, x2 + box[0], y2 + box[1]))
            placed = to_frame(np.ascontiguousarray(rgba[window(content)]), corner, frame)
            if placed is not None:
                pieces.append(Piece(tag, layer.blend, *placed))
        return contents, pieces

    def _pixels(self, layer: CharacterLayer, box: Box) -> Image8:
        """What a layer shows in a box of the source: (h, w, 4) straight RGBA."""
        x, y = layer.box[:2]
        part = window((box[0] - x, box[1] - y, box[2] - x, box[3] - y))
        rgba = layer.rgba()[part]
        if layer.clip or layer.opacity < 1:
            left = clip_alpha(self._character, layer)[part] * np.float32(layer.opacity)
            rgba = rgba.copy()
            rgba[..., 3] = np.rint(rgba[..., 3] * left)
        return rgba

    def _canvas_box(self, layer: CharacterLayer) -> Box | None:
        return intersection(layer.box, (0, 0, *self._character.canvas))

    def _nothing(self) -> InputError:
        return InputError(
            f"{self._character.folder}: no labelled layer has a pixel on the canvas with an alpha"
            f" above {self._seen_above}: there is nothing to draw"
        )
