"""Makes layers of what the Cubism Core says of a pose: order, clips, blend modes, merged pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np

from seethrough.characters.form import Image8, straight_rgba
from seethrough.characters.write import NewLayer
from seethrough.errors import InputError
from seethrough.ingest.live2d_core import Answer
from seethrough.ingest.live2d_raster import Drawn, Floats, Ints, Texture, draw_mesh

DOUBLE_SIDED, INVERTED_MASK = 4, 8
"""Bits of a drawable's constant flags."""
VISIBLE = 1
"""Bit of its dynamic flags."""

FAINT = 0.005
"""A drawable below this opacity is left out: models hide what another pose shows."""

NORMAL = "normal"
COLOR_BLENDS = (
    NORMAL,
    "add",
    "multiply",
    "add",
    "add",
    "darken",
    "multiply",
    "color-burn",
    "linear-burn",
    "lighten",
    "screen",
    "color-dodge",
    "overlay",
    "soft-light",
    "hard-light",
    "linear-light",
    "hue",
    "color",
)
"""The form's name of each colour blend type; 3, add, and 4, add with glow, both become add."""
ALPHA_BLENDS = ("over", "atop", "out", "conjoint over", "disjoint over")

Tint = tuple[tuple[float, ...], tuple[float, ...]]
"""Multiply and screen colour, RGB."""
_NO_TINT: Tint = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


@attrs.frozen(kw_only=True, eq=False)
class Drawable:
    """A mesh as a pose has it."""

    id: str
    path: tuple[str, ...]
    """Parts from the root inwards, then itself."""
    part: str
    """Id of its part; empty without one."""
    texture: int
    vertices: Floats
    """(n, 2) pixels on the canvas, y down."""
    uvs: Floats
    """(n, 2), v down."""
    triangles: Ints
    """(m, 3)."""
    opacity: float
    visible: bool
    order: int
    """The higher, the nearer."""
    blend: str
    masks: tuple[int, ...]
    inverted: bool
    cull: bool
    tints: tuple[Tint, ...]
    """Applied in turn."""

    @property
    def shown(self) -> bool:
        """Whether it is more than a mask."""
        return self.visible and self.opacity > FAINT and len(self.triangles) > 0


def canvas_size(answer: Answer, longest: int) -> tuple[int, int]:
    """Width and height in pixels; the longer side is the model's own, but at most `longest`."""
    width, height = answer["canvas"][:2]
    scale = min(1.0, longest / max(width, height, 1))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def drawables(
    moc: Path, answer: Answer, pose: int, names: Mapping[str, str], canvas: tuple[int, int]
) -> tuple[list[Drawable], list[str]]:
    """The drawables of a pose by their index, and what of them a layered picture can't hold.

    Args:
        moc: the model, for messages.
        answer: what the Core said.
        pose: which of its poses.
        names: names for people of parts, by id.
        canvas: width and height in pixels.

    Raises:
        InputError: naming the drawable, when a table points beyond another.
    """
    parts = _part_paths(answer, names)
    rows = _split(answer, "uv", answer["uv"])
    positions = _split(answer, "uv", _pixels(answer, answer[f"{pose}/position"], canvas))
    indices, masks = _split(answer, "index"), _split(answer, "mask")
    tables = {
        name: answer[f"{pose}/{name}"] for name in ("opacity", "dynamic", "multiply", "screen")
    }
    order = answer[f"{pose}/order"]
    found: list[Drawable] = []
    notes: dict[str, None] = {}
    for at, name in enumerate(answer["drawable_ids"].tolist()):
        part = int(answer["part"][at])
        corners = indices[at].astype(np.int64)
        clips = [int(mask) for mask in masks[at] if mask >= 0 and mask != at]
        finite = np.isfinite(positions[at]).all() and np.isfinite(rows[at]).all()
        if (
            len(corners) % 3
            or (len(corners) and corners.max() >= len(rows[at]))
            or any(mask >= len(order) for mask in clips)
            or part >= len(parts)
            or not finite
        ):
            raise InputError(f"{moc}: drawable {name} has impossible numbers: export it again")
        blend, said = _blend(int(answer["blend"][at]), int(answer["flags"][at]))
        if said:
            notes[f"drawable {name} is blended by {said}, and kept as {blend}"] = None
        drawable = Drawable(
            id=name,
            path=(*(parts[part] if part >= 0 else ()), name.replace("/", "_")),
            part=str(answer["part_ids"][part]) if part >= 0 else "",
            texture=int(answer["texture"][at]),
            vertices=positions[at],
            uvs=rows[at] * (1, -1) + (0, 1),
            triangles=corners.reshape(-1, 3),
            opacity=float(np.clip(tables["opacity"][at], 0, 1)),
            visible=bool(tables["dynamic"][at] & VISIBLE),
            order=int(order[at]),
            blend=blend,
            masks=tuple(dict.fromkeys(clips)),
            inverted=bool(answer["flags"][at] & INVERTED_MASK),
            cull=not answer["flags"][at] & DOUBLE_SIDED,
            tints=(_tint(tables["multiply"][at], tables["screen"][at]),),
        )
        for group in _groups(answer, part):
            drawable, said = _in_group(answer, pose, group, at, drawable)
            if said:
                owner = answer["part_ids"][part]
                notes[f"part {owner} lies in a group that is drawn {said}"] = None
        found.append(drawable)
    return found, list(notes)


def _pixels(answer: Answer, positions: Floats, canvas: tuple[int, int]) -> Floats:
    """Positions in units, y up, as pixels, y down."""
    width, height, origin_x, origin_y, unit = answer["canvas"]
    x = (positions[:, 0] * unit + origin_x) * (canvas[0] / width)
    y = (height - (positions[:, 1] * unit + origin_y)) * (canvas[1] / height)
    return np.stack([x, y], axis=1).astype(np.float64)


def _split(answer: Answer, name: str, values: np.ndarray | None = None) -> list[np.ndarray]:
    values = answer[name] if values is None else values
    return (
        np.split(values, answer[f"{name}_count"].cumsum()[:-1])
        if len(answer[f"{name}_count"])
        else []
    )


def _ancestors(answer: Answer, part: int) -> list[int]:
    """A part and those around it, from the inmost outwards."""
    found: list[int] = []
    while 0 <= part < len(answer["part_parent"]) and part not in found:
        found.append(part)
        part = int(answer["part_parent"][part])
    return found


def _part_paths(answer: Answer, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """For each part those around it and itself: its id, and its name for people where it has one.

    The id is often English and the name often not: rules by name need both.
    """
    ids = answer["part_ids"].tolist()
    words = [f"{name} {names[name]}" if names.get(name, name) != name else name for name in ids]
    return [
        tuple(words[at].replace("/", "_") for at in reversed(_ancestors(answer, part)))
        for part in range(len(ids))
    ]


def _blend(kind: int, flags: int) -> tuple[str, str]:
    """The form's blend mode, and what was lost, in words."""
    color, alpha = kind & 0xFF, kind >> 8 & 0xFF
    if kind == 0:
        color = 1 if flags & 1 else 2 if flags & 2 else 0
    name = COLOR_BLENDS[color] if color < len(COLOR_BLENDS) else NORMAL
    lost = [] if color < len(COLOR_BLENDS) else [f"unknown mode {color}"]
    if color == 4:
        lost.append("add with glow")
    if alpha:
        lost.append(ALPHA_BLENDS[alpha] if alpha < len(ALPHA_BLENDS) else f"unknown alpha {alpha}")
    return name, " and ".join(lost)


def _tint(multiply: np.ndarray, screen: np.ndarray) -> Tint:
    return (
        tuple(float(value) for value in np.clip(multiply[:3], 0, 1)),
        tuple(float(value) for value in np.clip(screen[:3], 0, 1)),
    )


def _groups(answer: Answer, part: int) -> list[int]:
    """Offscreens that a part is drawn through, from the inmost outwards."""
    found = [int(answer["part_offscreen"][at]) for at in _ancestors(answer, part)]
    return [at for at in found if 0 <= at < len(answer["offscreen_blend"])]


def _in_group(
    answer: Answer, pose: int, group: int, at: int, drawable: Drawable
) -> tuple[Drawable, str]:
    """A drawable with what its group does to all in it; and in words what that can't show.

    A group is drawn for itself and then as one picture. Its colours reach each drawable exactly;
    opacity and blend mode do so only where its drawables don't overlap.
    """
    blend, said = _blend(
        int(answer["offscreen_blend"][group]), int(answer["offscreen_flags"][group])
    )
    opacity = float(np.clip(answer[f"{pose}/offscreen_opacity"][group], 0, 1))
    clips = _split(answer, "offscreen_mask")[group]
    known = set(range(len(answer["drawable_ids"]))) - {at}
    masks = tuple(int(mask) for mask in clips if int(mask) in known)
    tint = _tint(
        answer[f"{pose}/offscreen_multiply"][group], answer[f"{pose}/offscreen_screen"][group]
    )
    lost = [f"by {said}"] if said else []
    if blend != NORMAL:
        lost.append(f"as one in mode {blend}")
        if drawable.blend != NORMAL:
            blend = drawable.blend
    else:
        blend = drawable.blend
        if blend != NORMAL:
            lost.append(f"apart, and has {blend} reach no further than it")
    if FAINT < opacity < 1:
        lost.append(f"as one at opacity {opacity:.2f}")
    inverted = drawable.inverted
    if masks and drawable.masks:
        lost.append("through a clip of its own, beside that of its drawables")
        masks = drawable.masks
    elif masks:
        inverted = bool(int(answer["offscreen_flags"][group]) & INVERTED_MASK)
    else:
        masks = drawable.masks
    drawable = attrs.evolve(
        drawable,
        opacity=drawable.opacity * opacity,
        blend=blend,
        masks=masks,
        inverted=inverted,
        tints=(*drawable.tints, tint),
    )
    return drawable, "; ".join(lost)


def gather(found: Sequence[Drawable], merge: bool) -> list[list[int]]:
    """Which drawables make up each layer, from back to front: those shown, and their masks.

    Args:
        found: the drawables of a pose.
        merge: put the pieces of a mesh that was cut up, for skinning, together again.
    """
    shown = {at for at, item in enumerate(found) if item.shown and not _is_hit_area(item)}
    needed = shown | {mask for at in shown for mask in found[at].masks}
    users: dict[int, frozenset[int]] = {
        at: frozenset(other for other in shown if at in found[other].masks) for at in needed
    }
    result: list[list[int]] = []
    for at in sorted(needed, key=lambda at: found[at].order):
        last = result[-1] if result else []
        fits = merge and last and users[at] == users[last[0]] and {at, last[0]} <= shown
        if fits and any(_are_pieces(found[at], found[other]) for other in last):
            last.append(at)
        else:
            result.append([at])
    return result


def _is_hit_area(item: Drawable) -> bool:
    """Whether it only says where a pointer meets the model."""
    return "hitarea" in item.id.lower()


def _are_pieces(one: Drawable, other: Drawable) -> bool:
    """Whether two drawables are neighbouring pieces of one mesh that was cut up.

    They lie in one part, are drawn alike, and either the part is one that Cubism made for skinning,
    or they meet in at least two vertices, on the texture and on the canvas; drawables of their own
    have their own place on the texture.
    """
    alike = ("part", "texture", "blend", "opacity", "masks", "inverted", "tints")
    if one.blend != NORMAL or any(getattr(one, at) != getattr(other, at) for at in alike):
        return False
    if not one.part:
        return False
    # Cubism names such a part after the mesh, with this word or its Japanese one.
    name = one.path[-2].lower()
    if "skinning" in name or "スキニング" in name:
        return True
    near = np.abs(one.uvs[:, None] - other.uvs).max(-1) < 1e-5
    near &= np.abs(one.vertices[:, None] - other.vertices).max(-1) < 0.5
    met = near.any(1).sum(), near.any(0).sum()
    return min(met) >= 2 and met[0] < len(one.uvs) and met[1] < len(other.uvs)


def layers(
    moc: Path,
    found: Sequence[Drawable],
    gathered: Sequence[Sequence[int]],
    textures: Sequence[Texture],
    canvas: tuple[int, int],
) -> Iterator[NewLayer]:
    """Draw the layers, one at a time, from back to front.

    Raises:
        InputError: when a drawable's texture is missing.
    """
    places = {at: place for place, members in enumerate(gathered) for at in members}
    for members in gathered:
        first = found[members[0]]
        crops = [_draw(moc, found[at], textures, canvas) for at in members]
        corner, rgba = _over([crop for crop in crops if crop is not None])
        yield NewLayer(
            path=first.path,
            corner=corner,
            rgba=rgba,
            blend=first.blend,
            opacity=first.opacity,
            clip=tuple(sorted({places[mask] for mask in first.masks})),
            clip_inverted=first.inverted and bool(first.masks),
            visible=first.shown and not _is_hit_area(first),
        )


def _draw(
    moc: Path, item: Drawable, textures: Sequence[Texture], canvas: tuple[int, int]
) -> Drawn | None:
    if not 0 <= item.texture < len(textures):
        raise InputError(
            f"{moc}: drawable {item.id} uses texture {item.texture}, but {len(textures)} are given:"
            " add it to FileReferences.Textures"
        )
    drawn = draw_mesh(
        item.vertices,
        item.uvs,
        item.triangles,
        textures[item.texture],
        canvas,
        cull=item.cull,
    )
    if drawn is not None:
        color, alpha = drawn.rgba[..., :3], drawn.rgba[..., 3:]
        for tint in item.tints:
            if tint != _NO_TINT:
                multiply, screen = np.array(tint, np.float32)
                color *= multiply
                color += screen * alpha - color * screen
    return drawn


def _over(crops: Sequence[Drawn]) -> tuple[tuple[int, int], Image8]:
    """Crops drawn over each other: corner and straight RGBA of them all."""
    if not crops:
        return (0, 0), np.zeros((1, 1, 4), np.uint8)
    if len(crops) == 1:
        rgba = crops[0].rgba
        return crops[0].corner, straight_rgba(rgba[..., :3], rgba[..., 3])
    corners = np.array([crop.corner for crop in crops])
    ends = corners + [crop.rgba.shape[1::-1] for crop in crops]
    x1, y1 = (int(value) for value in corners.min(0))
    width, height = ends.max(0) - (x1, y1)
    rgba = np.zeros((height, width, 4), np.float32)
    for crop in crops:
        x, y = crop.corner[0] - x1, crop.corner[1] - y1
        window = rgba[y : y + crop.rgba.shape[0], x : x + crop.rgba.shape[1]]
        window *= 1 - crop.rgba[..., 3:]
        window += crop.rgba
    return (x1, y1), straight_rgba(rgba[..., :3], rgba[..., 3])
