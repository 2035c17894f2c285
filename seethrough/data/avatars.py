"""The embedded characters: layered art drawn from python_avatars' parts.

Every character is a set of complete layers (each whole behind what covers it), a drawing order,
and a page: the layers over each other on a drawn background. All of it is a pure function of
(seed, split, size). Train and test characters share no combination of parts.

The drawing order varies where the art allows: glasses over or under the fringe, a hat over or
under short hair, long hair before or behind the shoulders, a collar over all of it, brows over the
fringe, a hat over glasses.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import attrs
import cv2
import numpy as np
import python_avatars as pa
import resvg_py
from numpy.typing import NDArray

from seethrough.data.avatars_parts import (
    CANVAS,
    COLOR,
    INK,
    Part,
    body,
    fragments,
    names,
    skull,
)
from seethrough.data.tags import HEAD, HEAD_PARTS

Split = Literal["train", "test"]

TEST_SHARE = 8
"""One in this many combinations of parts belongs to the test split."""

_MIXED_ART = frozenset({"astronout", "hat", "wick", "no_hair"})
"""Hair styles with a helmet, a hat or wounds drawn in (python_avatars spells the first so)."""

_HAIR = names(pa.HairType, without=_MIXED_ART)
_FRINGES = (
    "buzzcut", "caesar", "caesar_side_part", "cornrows", "frizzle", "pixie", "pompadour", "quiff",
    "short_curly", "short_dreads_1", "short_flat", "short_round", "short_waved", "shaggy",
)  # fmt: skip
"""Short styles that can stand before long hair, or before a hat."""

_BACK_HAIR = (
    "big_hair", "bob", "curly", "curvy", "dreads", "einstein_hair", "fro", "long_not_too_long",
    "loose_hair", "mia_wallace", "short_dreads_2", "straight_1", "straight_2", "straight_strand",
    "wild",
)  # fmt: skip
"""Long styles that can hang behind the head and the shoulders."""

_HATS = names(pa.HatType, without=frozenset({"chef_cap", "gladiator_helmet"}))
"""Hats without hair drawn in."""

_HOODS = frozenset({"hijab", "jedi", "turban"})
"""Hats that leave no hair in sight."""

_CLOTHES = names(pa.ClothingType)
_GLASSES = names(pa.AccessoryType)
_BEARDS = names(pa.FacialHairType)
_EYES = names(pa.EyeType, without=frozenset({"cry"}))
_MOUTHS = names(pa.MouthType, without=frozenset({"eating"}))
_BROWS = names(pa.EyebrowType)
_NOSES = names(pa.NoseType)
_INK_SHADES = {"nose": 0.72, "eyebrow": 0.4, "irides": 0.3, "eyelash": 0.35, "mouth": 0.35}
"""How much of the skin's colour is left in the ink of each tag."""


_USUAL_ORDER = (
    "back hair", "neck", "topwear", "neckwear", "ears", "face", "mouth", "nose", "eyewhite",
    "irides", "eyelash", "eyebrow", "eyewear", "front hair", "earwear", "headwear",
)  # fmt: skip
"""Tags back to front."""

_STEP = 8
"""Between levels: twice as many as there are tags fit into a byte."""

COVERS = 25
"""A layer has a depth where its alpha is above this, as in the published renderer."""


@attrs.frozen(eq=False)
class Layer:
    """One complete layer on the full canvas."""

    tag: str
    """V3 tag, or `head`."""

    rgba: NDArray[np.uint8]
    """(H, W, 4), straight alpha; colour 0 where alpha is 0."""

    depth: NDArray[np.uint8]
    """(H, W): larger is nearer, 0 where the layer has none."""


@attrs.frozen(eq=False)
class Character:
    """One character with its page."""

    seed: int
    split: Split
    size: int
    parts: tuple[Part, ...]
    """The drawings it is made of: its combination."""

    layers: tuple[Layer, ...]
    """In drawing order, back to front; without `head`."""

    background: NDArray[np.uint8]
    """(H, W, 3)."""

    @property
    def head(self) -> Layer | None:
        """`HEAD_PARTS` over each other, in this character's drawing order."""
        parts = [layer for layer in self.layers if layer.tag in HEAD_PARTS]
        if not parts:
            return None
        rgba = straight(over(layer.rgba for layer in parts))
        return Layer(HEAD, rgba, nearest(parts))

    @property
    def page(self) -> NDArray[np.uint8]:
        """(H, W, 4): RGB is the character over the background everywhere, A its own alpha."""
        flat = over(layer.rgba for layer in self.layers)
        alpha = flat[..., 3:]
        rgb = flat[..., :3] + (1 - alpha) * self.background.astype(np.float64)
        return np.rint(np.concatenate([rgb, alpha * 255], axis=-1)).astype(np.uint8)


def over(layers: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Straight uint8 RGBA layers, back to front, over each other.

    Returns (H, W, 4): colour premultiplied in [0, 255], alpha in [0, 1].
    """
    result: NDArray[np.float64] | None = None
    for rgba in layers:
        alpha = rgba[..., 3:].astype(np.float64) / 255
        layer = np.concatenate([rgba[..., :3] * alpha, alpha], axis=-1)
        result = layer if result is None else layer + result * (1 - alpha)
    if result is None:
        raise ValueError("no layers to composite")
    return result


def nearest(layers: Sequence[Layer]) -> NDArray[np.uint8]:
    """(H, W): the depth of the nearest layer that has one; 0 where there is none."""
    return np.max([layer.depth for layer in layers], axis=0)


def straight(flat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The result of `over` as straight uint8 RGBA."""
    alpha = flat[..., 3:]
    rgb = np.divide(flat[..., :3], alpha, out=np.zeros_like(flat[..., :3]), where=alpha > 0)
    return np.rint(np.concatenate([rgb, alpha * 255], axis=-1)).astype(np.uint8)


def draw_character(seed: int, split: Split, size: int) -> Character:
    """Draw the character of `seed` on a canvas of `size` x `size` pixels."""
    key = hashlib.blake2b(f"avatars/{split}/{seed}".encode(), digest_size=16).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    parts = _choose_parts(rng, split)
    colors = _Colors.choose(rng)
    art = _collect(parts, colors)
    order = _drawing_order(rng, parts, art)
    pose = _pose(rng)
    background = _render(_background(rng), size)[..., :3]
    drawn = {tag: _render(f'<g transform="{pose}">{art[tag]}</g>', size) for tag in order}
    masks = {tag: rgba[..., 3] > COVERS for tag, rgba in drawn.items()}
    levels = drawing_levels(masks)
    # Where only specks show an order, the levels' counts, so that depth and page agree.
    layers = [
        Layer(tag, drawn[tag], np.where(masks[tag], levels[tag], 0).astype(np.uint8))
        for tag in sorted(levels, key=levels.__getitem__)
    ]
    return Character(seed, split, size, tuple(parts.values()), tuple(layers), background)


def drawing_levels(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """Levels, from 1 to 255, of layers that are drawn in this order, without those that are empty.

    A layer is on the level that its tag usually has, or one above the highest that it is seen to
    cover: an order that doesn't show in the page can't be learnt from it. No two have the same.
    """
    levels: dict[str, int] = {}
    drawn = [tag for tag, mask in masks.items() if mask.any()]
    for place, tag in enumerate(drawn):
        above = (masks[other] for other in drawn[place + 1 :])
        seen = np.logical_and.reduce([masks[tag], *(~mask for mask in above)])
        covered = (levels[other] for other in levels if _overlap(seen, masks[other]))
        usual = _STEP * (_USUAL_ORDER.index(tag) + 1)
        level = max(usual, _STEP + max(covered, default=0))
        while level in levels.values():
            level += 1
        levels[tag] = level
    return levels


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks share more than specks of a rim: a square of 1/16 of the canvas' side."""
    return int((one & other).sum()) >= max(one.size // 256, 1)


@attrs.frozen
class _Colors:
    """Hex colours from the package's palettes."""

    skin: str
    hair: str
    beard: str
    hat: str
    clothes: str

    @staticmethod
    def choose(rng: np.random.Generator) -> "_Colors":
        def pick(palette: type[pa.SkinColor] | type[pa.HairColor] | type[pa.ClothingColor]) -> str:
            return _pick(rng, sorted({str(color) for color in palette}))

        hair = pick(pa.HairColor)
        beard = hair if rng.random() < 0.7 else pick(pa.HairColor)
        return _Colors(
            pick(pa.SkinColor), hair, beard, pick(pa.ClothingColor), pick(pa.ClothingColor)
        )


def _pick(rng: np.random.Generator, choices: tuple[str, ...] | list[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _choose_parts(rng: np.random.Generator, split: Split) -> dict[str, Part]:
    """Draw combinations by role until one belongs to the split."""
    while True:
        parts = _combination(rng)
        combination = "/".join(f"{role}={part.name}" for role, part in sorted(parts.items()))
        digest = hashlib.blake2b(combination.encode(), digest_size=8).digest()
        is_test = int.from_bytes(digest, "little") % TEST_SHARE == 0
        if is_test == (split == "test"):
            return parts


def _combination(rng: np.random.Generator) -> dict[str, Part]:
    parts = {
        "clothes": Part("clothes", _pick(rng, _CLOTHES)),
        "mouth": Part("mouth", _pick(rng, _MOUTHS)),
        "nose": Part("nose", _pick(rng, _NOSES)),
        "eyes": Part("eyes", _pick(rng, _EYES)),
        "brows": Part("eyebrows", _pick(rng, _BROWS)),
    }
    hat = _pick(rng, _HATS) if rng.random() < 0.3 else None
    if hat is not None:
        parts["hat"] = Part("hat", hat)
    if hat not in _HOODS and rng.random() < 0.9:
        if rng.random() < 0.5:
            parts["front"] = Part("hair", _pick(rng, _FRINGES))
            parts["back"] = Part("hair", _pick(rng, _BACK_HAIR))
        else:
            parts["front"] = Part("hair", _pick(rng, _HAIR if hat is None else _FRINGES))
    if rng.random() < 0.4:
        parts["glasses"] = Part("accessories", _pick(rng, _GLASSES))
    if rng.random() < 0.3:
        parts["beard"] = Part("facial_hair", _pick(rng, _BEARDS))
    return parts


def _collect(parts: dict[str, Part], colors: _Colors) -> dict[str, str]:
    """SVG of every tag, coloured. A tag drawn by several parts has them over each other."""
    art = {tag: body(tag, colors.skin, "#000000") for tag in ("neck", "ears", "face")}
    open_colors = {
        "hair": colors.hair,
        "hat": colors.hat,
        "clothes": colors.clothes,
        "facial_hair": colors.beard,
    }
    for role, part in parts.items():
        color = open_colors.get(part.folder, "#000000")
        for tag, svg in fragments(part).items():
            svg = svg.replace(COLOR, color)
            if tag in _INK_SHADES:
                svg = svg.replace(INK, _shade(colors.skin, _INK_SHADES[tag]))
            if role == "back":
                if tag != "front hair":
                    continue
                tag, svg = "back hair", skull(color) + svg
            art[tag] = art.get(tag, "") + svg
    return art


def _shade(color: str, left: float) -> str:
    values = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(value * left):02x}" for value in values)


def _drawing_order(
    rng: np.random.Generator, parts: dict[str, Part], art: dict[str, str]
) -> list[str]:
    """Tags back to front."""
    tucked, *evens = (rng.random() < share for share in (0.3, 0.75, 0.5, 0.5))
    hair_before, brows_over, hat_under = evens
    features = ["mouth", "nose", "eyewhite", "irides", "eyelash"]
    upper = ["front hair", "eyewear"] if rng.random() < 0.5 else ["eyewear", "front hair"]
    if "hat" in parts and hat_under and parts.get("front", Part("", "")).name in _FRINGES:
        upper.insert(upper.index("front hair"), "headwear")
    else:
        upper.insert(int(rng.integers(upper.index("front hair") + 1, 3)), "headwear")
    upper.insert(len(upper) if brows_over else 0, "eyebrow")
    upper.insert(upper.index("front hair") + 1, "earwear")
    lower, clothes = ["neck"], ["topwear", "neckwear"]
    if not tucked:
        lower += clothes
    lower.insert(len(lower) if hair_before else 0, "back hair")
    order = [*lower, "ears", "face", *features, *upper]
    return [tag for tag in (*order, *(clothes if tucked else [])) if tag in art]


def _pose(rng: np.random.Generator) -> str:
    """An SVG transform: scale, rotation, shift and mirror about the canvas' centre.

    Wide enough that a tag's mean alpha is a poor guess of it; the figure fills the canvas still.
    """
    scale, angle = rng.uniform(0.8, 1.1), rng.uniform(-15, 15)
    x, y = CANVAS / 2 + rng.uniform(-20, 20, size=2)
    mirror = scale if rng.random() < 0.5 else -scale
    return (
        f"translate({x:.2f} {y:.2f}) rotate({angle:.2f}) scale({mirror:.4f} {scale:.4f})"
        f" translate(-132 -{CANVAS / 2:g})"
    )


def _background(rng: np.random.Generator) -> str:
    """A plain colour or a gradient; now and then coarse stripes, dots or checks.

    Mostly calm: a small VAE spends the page's few latents on whatever is busiest.
    """
    colors = ["#" + bytes(rng.integers(40, 256, size=3).tolist()).hex() for _ in range(2)]
    step, angle = int(rng.integers(40, 90)), int(rng.integers(0, 180))
    patterns = ["stripes", "dots", "checks"]
    kind = _pick(rng, patterns if rng.random() < 0.15 else ["plain", "plain", "gradient"])
    shapes = {
        "stripes": f'<rect width="{step}" height="{2 * step}" fill="{colors[1]}"/>',
        "dots": f'<circle cx="{step}" cy="{step}" r="{step / 2}" fill="{colors[1]}"/>',
        "checks": f'<path d="M0,0 h{step} v{2 * step} h{step} v-{step} h-{2 * step} Z"'
        f' fill="{colors[1]}"/>',
    }
    square = f'<rect width="{CANVAS}" height="{CANVAS}"'
    svg = f'{square} fill="{colors[0]}"/>'
    if kind == "gradient":
        stops = "".join(f'<stop offset="{at}" stop-color="{colors[at]}"/>' for at in (0, 1))
        return (
            f'<linearGradient id="paint" gradientTransform="rotate({angle} 0.5 0.5)">{stops}'
            f'</linearGradient>{square} fill="url(#paint)"/>'
        )
    if kind in shapes:
        svg += (
            f'<pattern id="paint" width="{2 * step}" height="{2 * step}"'
            f' patternUnits="userSpaceOnUse" patternTransform="rotate({angle})">{shapes[kind]}'
            f'</pattern>{square} fill="url(#paint)"/>'
        )
    return svg


def _render(svg: str, size: int) -> NDArray[np.uint8]:
    """Render SVG in canvas units: (size, size, 4), straight RGBA."""
    document = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="{CANVAS}" height="{CANVAS}" viewBox="0 0 {CANVAS} {CANVAS}">{svg}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=document, width=size, height=size))
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgra is None or bgra.shape != (size, size, 4):
        raise RuntimeError(f"resvg rendered no {size} x {size} RGBA picture")
    return cast(NDArray[np.uint8], cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA))
