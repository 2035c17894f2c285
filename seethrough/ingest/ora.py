"""Reads OpenRaster files: https://www.openraster.org/baseline/layer-stack-spec.html."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from seethrough.characters.form import Image8
from seethrough.errors import InputError
from seethrough.ingest.archive import Archive, open_archive
from seethrough.ingest.drawing import Budget, Drawing
from seethrough.ingest.settings import IngestSettings
from seethrough.ingest.tree import Clips, Group, Leaf, flat_layers

BLENDS = {
    "src-over": "normal",
    "plus": "add",
    **{
        name: name
        for name in (
            *("multiply", "screen", "overlay", "darken", "lighten", "color-dodge", "color-burn"),
            *("hard-light", "soft-light", "difference", "exclusion"),
            *("hue", "saturation", "color", "luminosity"),
        )
    },
}
"""What follows `svg:` in a composite-op; `src-atop` is a clip."""


def read(path: Path, settings: IngestSettings) -> Iterator[Drawing]:
    """Yield the one character of an OpenRaster file.

    Raises:
        InputError: when it is broken, leaves its archive, or is beyond the limits.
    """
    with open_archive(path, settings) as archive:
        budget = Budget(path, settings)
        image = archive.xml("stack.xml")
        canvas = _whole(path, image, "w", None), _whole(path, image, "h", None)
        budget.canvas(*canvas)
        budget.count(sum(1 for _ in image.iter("layer")))
        stack = image.find("stack")
        if stack is None:
            raise InputError(f"{path}: stack.xml has no stack: save it again from its program")
        notes: list[str] = []
        reader = _Reader(archive, budget, notes)
        yield Drawing(
            name=path.stem,
            canvas=canvas,
            files=[path],
            layers=flat_layers(reader.children(stack, ()), notes),
            tool="pillow",
            notes=notes,
            picture=lambda: archive.merged(("mergedimage.png",), canvas),
        )


class _Reader:
    def __init__(self, archive: Archive, budget: Budget, notes: list[str]) -> None:
        self._archive = archive
        self._budget = budget
        self._notes = notes

    def children(self, stack: Element, around: tuple[str, ...]) -> list[Leaf | Group]:
        """What lies in a stack, from back to front; the file has the front first."""
        found = (self._node(element, around) for element in reversed(stack))
        return [node for node in found if node is not None]

    def _node(self, element: Element, around: tuple[str, ...]) -> Leaf | Group | None:
        path = self._archive.path
        name = element.get("name") or element.tag
        told = "/".join((*around, name))
        operator = element.get("composite-op", "svg:src-over").removeprefix("svg:")
        clips: Clips = "below" if operator == "src-atop" else "none"
        if element.tag not in ("layer", "stack") or operator.startswith(("dst-", "src-out")):
            self._notes.append(
                f"{told}: a {element.tag} in mode {operator} is left out: merge it to keep what it"
                " does"
            )
            return None
        blend = BLENDS.get(operator)
        if blend is None:
            blend = "normal"
            if clips == "none":
                self._notes.append(f"{told}: blend mode {operator} becomes normal")
        opacity = _number(path, element, "opacity")
        visible = element.get("visibility", "visible") == "visible"
        if element.tag == "stack":
            isolated = element.get("isolation") == "isolate" or opacity < 1 or blend != "normal"
            return Group(
                name=name,
                children=self.children(element, (*around, name)),
                blend=blend if isolated else None,
                opacity=opacity,
                visible=visible,
                clips=clips,
            )
        source = element.get("src")
        if not source:
            raise InputError(f"{path}: layer {told!r} names no file in stack.xml: save it again")

        def rgba() -> Image8:
            return self._archive.picture(source, self._budget)

        return Leaf(
            name=name,
            corner=(_whole(path, element, "x"), _whole(path, element, "y")),
            rgba=rgba,
            blend=blend,
            opacity=opacity,
            visible=visible,
            clips=clips,
        )


def _number(path: Path, element: Element, key: str) -> float:
    """An attribute within 0 and 1; 1 without it."""
    text = element.get(key, "1")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{path}: {key}={text!r} in stack.xml is not within 0 and 1")
    return value


def _whole(path: Path, element: Element, key: str, default: str | None = "0") -> int:
    """An attribute that is a whole number of pixels."""
    text = element.get(key, default)
    try:
        return int(text or "")
    except ValueError as error:
        raise InputError(f"{path}: {key}={text!r} in stack.xml is no whole number") from error
