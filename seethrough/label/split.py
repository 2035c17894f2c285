"""Splits the tags `hair` and `eyes` of V2 into those of V3, by order, clips and place."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from seethrough.characters.form import Box, Character, CharacterLayer
from seethrough.label.guess import Guess

Guesses = dict[int, Guess]
"""By the layer's place in the character."""

NO_FACE = 0.3
"""How sure hair is front hair where no face says what lies behind it."""

CLIPPED, ABOVE, WITHIN, AROUND, REST = 0.85, 0.7, 0.65, 0.65, 0.4
"""How sure each rule of the eyes is: clipped by the white; above the eye; within it; the layer
behind that holds the others; what remains."""

ALONE = 0.15
"""How sure a part is where a whole eye is one layer."""

IRIS_WIDTH = 0.8
"""Most of an eye's width that an iris takes."""

IRIS_HEIGHT = 0.4
"""Least of an eye's height that an iris takes."""


def split_hair(character: Character, guesses: Guesses) -> None:
    """Make `hair` front or back hair: in front of the face, or behind it.

    The face's place is that of its largest layer (a blush or a shadow may lie higher), or of the
    lowest nose or mouth if that is lower. Without a face all of it is front hair, hardly sure.
    """
    place, sure = _face(character, guesses)
    for index, guess in guesses.items():
        if guess.tag == "hair":
            tag = "back hair" if place is not None and index <= place else "front hair"
            guesses[index] = Guess(tag, sure * guess.confidence, "split")


def split_eyes(character: Character, guesses: Guesses) -> None:
    """Make `eyes` an eyebrow, an eyewhite, irides or an eyelash.

    What another layer of the eye clips are irides, and that other is the white; what is as wide
    as the white that clips it is a shadow on it. The rest is told by its place among the layers
    of its side that are known, or else among themselves.
    """
    for index, guess in list(guesses.items()):
        if guess.tag == "eyes" and (whites := _whites(character.layers[index], guesses)):
            box, eye = character.layers[index].box, union([character.layers[i].box for i in whites])
            tag = "irides" if _is_narrow(box, eye) else "eyewhite"
            guesses[index] = _made(guess, tag, CLIPPED)
            for white in whites:
                if guesses[white].tag == "eyes":
                    guesses[white] = _made(guesses[white], "eyewhite", CLIPPED)
    known = [i for i, g in guesses.items() if g.tag in ("eyes", "irides", "eyewhite", "eyelash")]
    for side in _sides([character.layers[index] for index in known]):
        _split_side(side, guesses)


def _face(character: Character, guesses: Guesses) -> tuple[int | None, float]:
    """The face's place in the order, and how sure the split by it is."""
    faces = [index for index, guess in guesses.items() if guess.tag == "face"]
    if not faces:
        return None, NO_FACE
    largest = max(faces, key=lambda index: _area(character.layers[index].box))
    marks = [index for index, guess in guesses.items() if guess.tag in ("nose", "mouth")]
    return min([largest, *marks]), guesses[largest].confidence


def _whites(layer: CharacterLayer, guesses: Guesses) -> list[int]:
    """The layers of an eye that clip a layer to themselves."""
    if layer.clip_inverted:
        return []
    return [i for i in layer.clip if i in guesses and guesses[i].tag in ("eyes", "eyewhite")]


def _sides(layers: Sequence[CharacterLayer]) -> list[list[CharacterLayer]]:
    """The layers of each eye, by whether their middle lies left or right of all eyes'.

    A layer that reaches across the middle belongs to both eyes: then there is one side.
    """
    if not layers:
        return []
    left, _, right, _ = union([layer.box for layer in layers])
    middle, reach = (left + right) / 2, (right - left) / 10
    if any(box[0] < middle - reach and box[2] > middle + reach for box in (x.box for x in layers)):
        return [list(layers)]
    halves: list[list[CharacterLayer]] = [[], []]
    for layer in layers:
        halves[(layer.box[0] + layer.box[2]) / 2 > middle].append(layer)
    return [half for half in halves if half]


def _split_side(layers: Sequence[CharacterLayer], guesses: Guesses) -> None:
    """Tell the layers of one eye that are still `eyes`."""
    open_ones = [layer for layer in layers if guesses[layer.index].tag == "eyes"]
    known = [layer for layer in layers if guesses[layer.index].tag in ("irides", "eyewhite")]
    if len(layers) == 1:
        for layer in open_ones:
            guesses[layer.index] = _made(guesses[layer.index], "eyelash", ALONE)
        return
    eye = union([layer.box for layer in known]) if known else None
    for layer in open_ones:
        others = union([other.box for other in layers if other is not layer])
        frame = eye or others
        if _above(layer.box, frame):
            guesses[layer.index] = _made(guesses[layer.index], "eyebrow", ABOVE)
    rest = [layer for layer in open_ones if guesses[layer.index].tag == "eyes"]
    if eye is None and len(rest) > 1:
        white = min(rest, key=lambda layer: layer.index)
        if any(_holds(white.box, other.box) for other in rest if other is not white):
            guesses[white.index] = _made(guesses[white.index], "eyewhite", AROUND)
            eye = white.box
    for layer in rest:
        guess = guesses[layer.index]
        if guess.tag == "eyes":
            iris = eye is not None and _holds(eye, layer.box) and _is_iris(layer.box, eye)
            tag, sure = ("irides", WITHIN) if iris else ("eyelash", REST)
            guesses[layer.index] = _made(guess, tag, sure)


def _is_iris(box: Box, eye: Box) -> bool:
    """Whether a box in an eye is narrow, high and in its middle half; at its corners lashes end."""
    width, height = eye[2] - eye[0], eye[3] - eye[1]
    aside = abs(box[0] + box[2] - eye[0] - eye[2]) / 2
    high = box[3] - box[1] >= IRIS_HEIGHT * height
    return _is_narrow(box, eye) and high and aside <= width / 4


def _is_narrow(box: Box, eye: Box) -> bool:
    return box[2] - box[0] <= IRIS_WIDTH * (eye[2] - eye[0])


def _holds(outer: Box, inner: Box) -> bool:
    """Whether four fifths of a box lie within another."""
    width = min(outer[2], inner[2]) - max(outer[0], inner[0])
    height = min(outer[3], inner[3]) - max(outer[1], inner[1])
    return max(width, 0) * max(height, 0) >= 0.8 * _area(inner)


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _above(box: Box, eye: Box) -> bool:
    """Whether three quarters of a box lie above an eye; a lash reaches into it."""
    return box[1] + 0.75 * (box[3] - box[1]) < eye[1]


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _made(guess: Guess, tag: str, sure: float) -> Guess:
    return attrs.evolve(guess, tag=tag, confidence=sure * guess.confidence, by="split")
