"""Draws a sample of a character: a function of the seed, the character, a number and options."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np

from seethrough.characters.form import Character
from seethrough.characters.labels import Labels
from seethrough.data.draws import generator
from seethrough.data.layout import Box
from seethrough.data.tags import HEAD, HEAD_PARTS, STORED_MASK_ORDER, TAGS_V2
from seethrough.recipes.render import RenderOptions
from seethrough.render.backgrounds import draw_background, read_background
from seethrough.render.colour import (
    ColourPlan,
    find_palette,
    hsv_changed,
    match_histogram,
    plan_colour,
    quantised,
)
from seethrough.render.compositor import (
    Pixels,
    composite,
    page_of,
    premultiplied,
    straight,
)
from seethrough.render.files import levels_png, picture_png, run_lengths
from seethrough.render.geometry import (
    Image8,
    Placement,
    choose_placement,
    choose_scale,
    union,
    window,
)
from seethrough.render.pieces import Art, Piece
from seethrough.render.visibility import (
    Levels,
    Mask,
    drawing_levels,
    levels_of,
    visible_masks,
)

_MARKED_VALID = ("footwear", "objects")
"""Tags whose masks the published renderer marks as valid; it says nothing of the others."""


@attrs.frozen(eq=False)
class RenderedSample:
    """A page of a character with all that a model can learn from it."""

    name: str
    """Letters, digits and hyphens."""
    page: Image8
    """(H, W, 4): RGB is the picture with its background, A the character's alpha."""
    depth: Levels
    """(H, W): levels of the page, larger nearer, 0 where there is no layer."""
    layers: Mapping[str, tuple[Box, Image8]]
    """By tag, `head` among them: its box on the page, and (h, w, 4) RGBA, whole behind what covers
    it. Straight or premultiplied, as the annotation says."""
    depths: Mapping[str, Levels]
    """By tag: levels of its nearest piece, (h, w) as large as the layer."""
    masks: Mapping[str, Mask]
    """By tag: where it is seen on the page."""
    annotation: Mapping[str, Any]
    compat: bool
    """Whether it goes by the published renderer's rules."""

    def files(self) -> dict[str, bytes]:
        """The files of the published layout, by what follows the name in a file's name.

        `.png` is the page, `_ann.json` the annotation; the others are as in
        `seethrough.data.layout`.
        """
        files = {
            ".png": picture_png(self.page),
            "_depth.png": levels_png(self.depth),
            "_ann.json": json.dumps(self.annotation, ensure_ascii=False).encode(),
            ".json": json.dumps(self._run_lengths()).encode(),
        }
        for tag, (_, rgba) in self.layers.items():
            files[f"_{tag}.png"] = picture_png(rgba)
            files[f"_{tag}_depth.png"] = levels_png(self.depths[tag])
        return files

    def _run_lengths(self) -> list[dict[str, Any]]:
        """The visible masks in the order of `STORED_MASK_ORDER`."""
        height, width = self.page.shape[:2]
        return [
            run_lengths(self.masks.get(tag), (height, width))
            | ({} if self.compat and tag not in _MARKED_VALID else {"is_valid": True})
            for tag in STORED_MASK_ORDER
        ]


def render_sample(
    character: Character,
    labels: Labels,
    backgrounds: Sequence[Path],
    options: RenderOptions,
    seed: int,
    index: int,
) -> RenderedSample:
    """Draw one sample of a character.

    Args:
        character: the layered picture; its layers are decoded one at a time.
        labels: its layers' tags, in V3 or what can be read as it. Layers without are left out.
        backgrounds: pictures to put behind; without any, backgrounds are drawn.
        options: all distributions and rules.
        seed: of all samples.
        index: which of the character's samples, from 0.

    Raises:
        InputError: when the labels keep the character out, nothing is left to draw, or a picture
            can't be read.
    """
    return Renderer(character, labels, backgrounds, options).sample(seed, index)


class Renderer:
    """Draws several samples of a character, and decodes it once where their scales agree."""

    def __init__(
        self,
        character: Character,
        labels: Labels,
        backgrounds: Sequence[Path],
        options: RenderOptions,
    ) -> None:
        """Take what `render_sample` takes; raises as it does."""
        self._character = character
        self._labels = labels
        self._backgrounds = backgrounds
        self._options = options
        self._art = Art(character, labels, options.seen_above)

    def sample(self, seed: int, index: int) -> RenderedSample:
        """Draw one sample, the very one that `render_sample` draws."""
        options, compat = self._options, self._options.compat

        def random(purpose: str) -> np.random.Generator:
            return generator(seed, self._character.id, index, purpose)

        frame, pieces = self._art.pieces(
            lambda crop: choose_scale(random("scale"), crop, options.geometry)
        )
        placement = choose_placement(random("placement"), frame.size, options.geometry)
        background, source = self._background(random("background"), placement)
        plan = plan_colour(random("colour"), placement.size, options.colour)
        whole = (0, 0, frame.size[1], frame.size[0])
        pieces, background = _recoloured(pieces, background, plan, placement)
        pixels = composite(pieces, whole, compat)
        if plan.match:
            drawn = premultiplied(pixels) if compat else straight(pixels)
            background = match_histogram(background, drawn, options.colour.match_above, compat)
        if plan.quantise is not None:
            drawn = straight(pixels)
            palette = find_palette(random("palette"), drawn, background, plan.quantise)
            background = quantised(background, palette)
            pieces = [_with_colour(one, quantised(one.rgba[..., :3], palette)) for one in pieces]
            pixels = composite(pieces, whole, compat)
        facts = {"seed": seed, "index": index, "background": source}
        return self._finished(pieces, pixels, background, placement, facts)

    def _background(
        self, random: np.random.Generator, placement: Placement
    ) -> tuple[Image8, str | None]:
        """A page's background, and the name of the picture that it is of."""
        options = self._options
        if not self._backgrounds:
            return draw_background(random, placement.size, options.background), None
        path = self._backgrounds[int(random.integers(len(self._backgrounds)))]
        size, compat = placement.size, options.compat
        return read_background(random, path, size, options.background, compat), path.name

    def _finished(
        self,
        pieces: Sequence[Piece],
        pixels: Pixels,
        background: Image8,
        placement: Placement,
        facts: Mapping[str, Any],
    ) -> RenderedSample:
        options, compat = self._options, self._options.compat
        frame = pixels.shape[0], pixels.shape[1]
        levels, depth = drawing_levels(pieces, frame, options.seen_above)
        masks = visible_masks(
            pieces,
            frame,
            seen_above=options.seen_above,
            hidden_above=options.hidden_above,
            compat=compat,
        )
        layers: dict[str, tuple[Box, Image8]] = {}
        depths: dict[str, Levels] = {}
        for tag, parts in _by_tag(pieces, levels).items():
            box = union(piece.box for piece, _ in parts)
            layers[tag] = placement.box(box), _layer([piece for piece, _ in parts], box, compat)
            depths[tag] = levels_of(parts, box, options.seen_above, depth.dtype)
        masks = {tag: Mask(placement.box(mask.box), mask.inside) for tag, mask in masks.items()}
        character = self._character
        return RenderedSample(
            name=f"{character.id}-{facts['index']:05d}",
            page=_page(pixels, background, placement, compat),
            depth=_padded(depth, placement),
            layers=layers,
            depths=depths,
            masks=masks,
            annotation={
                "cleaned": self._labels.checked,
                "is_incomplete": self._labels.incomplete,
                "final_size": list(placement.size),
                "layer_alpha": "premultiplied" if compat else "straight",
                "tag_info": _tag_info(layers, masks, compat),
                "render": {
                    "character": character.id,
                    "licence": character.provenance.licence,
                    **facts,
                },
            },
            compat=compat,
        )


def _recoloured(
    pieces: Sequence[Piece], background: Image8, plan: ColourPlan, placement: Placement
) -> tuple[Sequence[Piece], Image8]:
    """Change hue, saturation, value and light of pieces and background alike."""
    if plan.hsv is not None:
        hsv = plan.hsv
        background = hsv_changed(background, hsv)
        pieces = [_with_colour(one, hsv_changed(one.rgba[..., :3], hsv)) for one in pieces]
    if plan.light is not None:
        light = plan.light
        background = light(background, (0, 0))
        pieces = [
            _with_colour(one, light(one.rgba[..., :3], placement.box(one.box)[:2]))
            for one in pieces
        ]
    return pieces, background


def _with_colour(piece: Piece, rgb: Image8) -> Piece:
    """A piece in other colours; where its alpha is 0 they stay 0."""
    alpha = np.ascontiguousarray(piece.alpha)
    return attrs.evolve(piece, rgba=cv2.copyTo(np.dstack([rgb, alpha]), alpha))


def _by_tag(pieces: Sequence[Piece], levels: Sequence[int]) -> dict[str, list[tuple[Piece, int]]]:
    """The pieces of each layer of the sample, with their levels, back to front."""
    found: dict[str, list[tuple[Piece, int]]] = {}
    for piece, level in zip(pieces, levels, strict=True):
        for tag in (piece.tag, HEAD) if piece.tag in HEAD_PARTS else (piece.tag,):
            found.setdefault(tag, []).append((piece, level))
    return {tag: found[tag] for tag in STORED_MASK_ORDER if tag in found}


def _layer(pieces: Sequence[Piece], box: Box, compat: bool) -> Image8:
    if compat:
        return premultiplied(composite(pieces, box, compat))
    if len(pieces) == 1:
        return pieces[0].rgba
    return straight(composite(pieces, box))


def _page(pixels: Pixels, background: Image8, placement: Placement, compat: bool) -> Image8:
    page = cv2.cvtColor(background, cv2.COLOR_RGB2RGBA)
    page[..., 3] = 0
    here = window(placement.box((0, 0, pixels.shape[1], pixels.shape[0])))
    page[here] = page_of(pixels, background[here], compat)
    return page


def _padded(depth: Levels, placement: Placement) -> Levels:
    """The levels of a frame on its page."""
    levels = np.zeros(placement.size, depth.dtype)
    levels[window(placement.box((0, 0, depth.shape[1], depth.shape[0])))] = depth
    return levels


def _tag_info(
    layers: Mapping[str, tuple[Box, Image8]], masks: Mapping[str, Mask], compat: bool
) -> dict[str, dict[str, Any]]:
    """What the annotation says of each tag."""
    if compat:
        info: dict[str, dict[str, Any]] = {tag: {"valid": True, "exists": False} for tag in TAGS_V2}
    else:
        info = {
            tag: {"valid": tag in masks and bool(masks[tag].inside.any()), "exists": False}
            for tag in STORED_MASK_ORDER
        }
    for tag, (box, _) in layers.items():
        info.setdefault(tag, {}).update(exists=True, xyxy=list(box))
    return info
