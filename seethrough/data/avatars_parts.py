"""Parts of python_avatars' drawings (MIT), each as SVG for one V3 tag.

The art is split where the artist drew separate shapes, and nowhere else, with these decisions:

- The body is one outline. Its own curves give `face` (closed by the chin's curve, which the artist
  drew as the upper edge of the neck's shadow), `ears`, and `neck` (neck, shoulders and chest: V3
  has no tag for skin). Neck and ears reach under the face, so that each is whole.
- Facial hair is part of `face`: V3 has no beard, and it moves with the chin.
- Discs of eye white are `eyewhite`, closed eyes are `eyelash`, every other eye is `irides`.
- A hair style drawn behind the head is `back hair`, with the skull behind the face filled in.
- Flowers, bands, caps and hoods are `headwear`, also where they come in a hair style's file;
  an earring is `earwear`, a tie `neckwear`, glasses and patches `eyewear`, clothes `topwear`.

Nose, eyes, brows and mouth are drawn in semi-transparent black in the art; here they are opaque
in a darkened skin colour, since a layer's alpha says what it covers.
"""

import copy
import re
from functools import cache
from pathlib import Path
from xml.etree.ElementTree import Element

import attrs
import python_avatars
from python_avatars.base_enums import AvatarPart
from python_avatars.svg_parser import SVGParser

CANVAS = 280
"""Side of the drawings' square canvas, in their own units."""

COLOR = "@color@"
"""Stands in a fragment for the colour that the art leaves open."""

INK = "@ink@"
"""Stands in a fragment for the darkened skin colour."""

_BODY_OFFSET = "translate(32 36)"
_FACE_OUTLINE = (
    "M100,0 C130.928,0 156,25.072 156,56 L156,94 C156,124.928 130.928,150 100,150"
    " C69.072,150 44,124.928 44,94 L44,56 C44,25.072 69.072,0 100,0 Z"
)
_EAR_OUTLINES = (
    "M50,62.166 L44,62.166 C38.325,63.118 34,68.054 34,74"
    " L34,88 C34,94.052 38.481,99.058 44.305,99.881 L50,99.881 Z"
    " M150,62.166 L156,62.166 C161.676,63.118 166,68.054 166,74"
    " L166,88 C166,94.052 161.519,99.058 155.694,99.881 L150,99.881 Z"
)
_NECK_OUTLINE = (
    "M76,110 L124,110 L124,163 L128,163 C167.765,163 200,195.235 200,235 L200,244 L0,244 L0,235"
    " C0,195.235 32.235,163 72,163 L76,163 Z"
)
_NECK_SHADOW = (
    "M76,110 L124,110 L124,152.6 C116.6,156.1 108.4,158 100,158 C91.6,158 83.4,156.1 76,152.6 Z"
)

_OFFSETS = {
    "hair": (0, 0),
    "hat": (0, 0),
    "clothes": (0, 170),
    "mouth": (78, 134),
    "nose": (104, 122),
    "eyes": (76, 90),
    "eyebrows": (76, 82),
    "facial_hair": (49, 72),
    "accessories": (62, 85),
}
"""Where python_avatars' template and tops place each folder's drawings, in canvas units."""

_OPENED = {"nose", "eyes", "eyebrows", "mouth"}
"""The folders whose semi-transparent black becomes opaque ink."""

_WHITES = ("Eye-Ball", "Eyeball", "The-White-Stuff", "The-white-stuff", "Eyeball-Mask")
_LIDS = ("Closed-Eye", "Squint", "Winky-Wink", "Winky-Doodle")

_ELEMENT_TAGS: dict[tuple[str, str], dict[str, str]] = {
    ("hair", "frida"): {"Ornamentos": "headwear", "Arete": "earwear"},
    ("hair", "fro_band"): {"Band": "headwear"},
    ("hair", "bride"): {"Fill-4": "headwear"},
    ("clothes", "bond_suit"): {"Fill-1": "neckwear"},
    ("clothes", "shirt_wick"): {"Fabric-Color": "neckwear"},
}
"""Elements of one file, by id, that belong to another tag than the file's."""

_COLOR_IDS = ("Hair-Color", "Fabric-Color", "Facial-Hair-Color")


@attrs.frozen
class Part:
    """One drawing of the package: its folder under `avatar_parts` and its name."""

    folder: str
    name: str


def names(kind: type[AvatarPart], without: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Names of the drawings of one kind, sorted; those in `without` and the empty one left out."""
    return tuple(sorted({str(part) for part in kind} - without - {""}))


def body(tag: str, color: str, ink: str) -> str:
    """SVG of `face`, `ears` or `neck` in the skin's colour; `ink` shades the neck."""
    outline = {"face": _FACE_OUTLINE, "ears": _EAR_OUTLINES, "neck": _NECK_OUTLINE}[tag]
    shapes = f'<path d="{outline}" fill="{color}"/>'
    if tag == "neck":
        shapes += f'<path d="{_NECK_SHADOW}" fill="{ink}" fill-opacity="0.1"/>'
    return f'<g transform="{_BODY_OFFSET}">{shapes}</g>'


def skull(color: str) -> str:
    """SVG of the head's outline: what long hair covers behind the face.

    The stroke closes the gap that antialiasing would leave along the hair's inner edge.
    """
    path = f'<path d="{_FACE_OUTLINE}" fill="{color}" stroke="{color}" stroke-width="3"/>'
    return f'<g transform="{_BODY_OFFSET}">{path}</g>'


def fragments(part: Part) -> dict[str, str]:
    """SVG of each tag in one drawing, on the canvas, with `COLOR` and `INK` to be replaced."""
    return _fragments(part.folder, part.name)


@cache
def _fragments(folder: str, name: str) -> dict[str, str]:
    root = Path(python_avatars.__file__).parent / "avatar_parts"
    nested = f"top/{folder}" if folder in ("hair", "hat") else folder
    parser = SVGParser(str(root / nested / f"{name}.svg"))
    for color_id in _COLOR_IDS:
        element = parser.get_element_by_id(color_id)
        if element is not None:
            element.set_attr("fill", COLOR)
    tree = parser.tree
    if tree is None:
        raise RuntimeError(f"python_avatars has no drawing in {folder}/{name}.svg")
    tags = _element_tags(folder, name, tree)
    found = {tag for element, tag in tags.items() if _draws(element)}
    return {tag: _layer(tree, tags, tag, folder) for tag in sorted(found)}


def _element_tags(folder: str, name: str, tree: Element) -> dict[Element, str]:
    """The tag of every element: its own, its parent's, or the folder's."""
    own = _ELEMENT_TAGS.get((folder, name), {})
    default = {
        "hair": "front hair",
        "hat": "headwear",
        "clothes": "topwear",
        "eyes": "irides",
        "eyebrows": "eyebrow",
        "facial_hair": "face",
        "accessories": "eyewear",
    }.get(folder, folder)
    tags: dict[Element, str] = {}

    def visit(element: Element, inherited: str) -> None:
        element_id = element.get("id", "").removeprefix(f"{name}_")
        tag = own.get(element_id, inherited)
        if folder == "eyes":
            if element_id in _WHITES or element_id.startswith("Cornea"):
                tag = "eyewhite"
            elif element_id in _LIDS:
                tag = "eyelash"
        tags[element] = tag
        for child in element:
            visit(child, tag)

    visit(tree, default)
    return tags


def _draws(element: Element) -> bool:
    return element.tag.rpartition("}")[2] in ("path", "use", "circle", "ellipse", "rect", "polygon")


def _layer(tree: Element, tags: dict[Element, str], tag: str, folder: str) -> str:
    """The drawing with the elements of other tags taken out."""

    def strip(element: Element) -> Element | None:
        kind = element.tag.rpartition("}")[2]
        if kind in ("metadata", "title", "desc"):
            return None
        if kind in ("defs", "mask", "clipPath"):
            return copy.deepcopy(element)
        children = [kept for child in element if (kept := strip(child)) is not None]
        if not children and (tags[element] != tag or kind in ("g", "svg")):
            return None
        kept = Element(element.tag, element.attrib)
        kept.extend(children)
        return kept

    kept = strip(tree)
    children = [] if kept is None else [str(SVGParser(svg=child)) for child in kept]
    x, y = _OFFSETS[folder]
    svg = f'<g transform="translate({x} {y})">{"".join(children)}</g>'
    return _opaque(svg) if folder in _OPENED else svg


def _opaque(svg: str) -> str:
    svg = re.sub(r'\s(fill-)?opacity="[^"]*"', "", svg)
    return re.sub(r'fill="#000(000)?"', f'fill="{INK}"', svg)
