"""Draws textured triangle meshes as a GPU does: trilinear mipmaps, top-left rule, no antialiasing.

A mesh is drawn for itself into a crop of the canvas; nothing as large as the canvas is made.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import cv2
import numpy as np
import numpy.typing as npt

from seethrough.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Premultiplied = npt.NDArray[np.float32]
"""(h, w, 4) float32 RGBA in [0, 1], colour multiplied by alpha."""

STEPS = 256
"""Vertices lie on a grid of this many steps a pixel, as GPUs snap them: sums on it are exact."""

MAX_TEXTURE = 16_384
"""Largest side of a texture in pixels, as GPUs have it."""

_ROW = 1024
"""cv2.remap takes points as a picture; this is its width."""


@attrs.frozen(eq=False)
class Texture:
    """A picture and its halvings."""

    levels: tuple[npt.NDArray[np.uint16], ...]
    """(h, w, 4) premultiplied RGBA, 0 to 65535; each half as large as the one before, to 1 x 1."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the largest level."""
        height, width = self.levels[0].shape[:2]
        return width, height


def make_texture(straight: npt.NDArray[np.uint8]) -> Texture:
    """Mipmaps of a picture, (h, w, 4) uint8 straight RGBA."""
    # Averaged after the multiplication, else the colour of transparent texels bleeds into edges.
    alpha = straight[..., 3:].astype(np.uint32)
    level: npt.NDArray[np.uint16] = np.empty(straight.shape, np.uint16)
    level[..., :3] = (straight[..., :3] * alpha * 65535 + 32512) // 65025
    level[..., 3:] = alpha * 257
    levels = [level]
    while max(level.shape[:2]) > 1:
        height, width = level.shape[:2]
        half = (max(width // 2, 1), max(height // 2, 1))
        level = np.asarray(cv2.resize(level, half, interpolation=cv2.INTER_AREA), np.uint16)
        levels.append(level)
    return Texture(tuple(levels))


def read_texture(path: Path) -> Texture:
    """Read a texture, RGBA or RGB of 8 bit.

    Raises:
        InputError: naming the file, when it is missing, no such picture, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Its size is known, and checked, before its pixels are decoded.
        with Image.open(path) as image:
            if max(image.size) > MAX_TEXTURE:
                raise InputError(
                    f"{path}: the texture is {image.width} x {image.height} px; sides go up to"
                    f" {MAX_TEXTURE}: export it smaller"
                )
            pixels = np.asarray(image.convert("RGBA"))
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: no picture: export the model's textures again") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}: export it smaller") from error
    except (OSError, SyntaxError) as error:
        raise InputError(
            f"{path}: the texture can't be read ({error}): copy it beside the model again"
        ) from error
    return make_texture(pixels)


@attrs.frozen(eq=False)
class Drawn:
    """A drawn mesh."""

    corner: tuple[int, int]
    """x and y of the crop's first pixel on the canvas."""
    rgba: Premultiplied
    """The crop."""


def draw_mesh(
    vertices: Floats,
    uvs: Floats,
    triangles: Ints,
    texture: Texture,
    canvas: tuple[int, int],
    *,
    cull: bool = False,
) -> Drawn | None:
    """Draw a mesh; None if it covers no pixel of the canvas.

    Where triangles of the mesh overlap, the last shows.

    Args:
        vertices: (n, 2) positions in pixels, y down; pixel centres lie at halves.
        uvs: (n, 2) in [0, 1] of the texture, v down.
        triangles: (m, 3) indices of vertices.
        texture: what is drawn.
        canvas: width and height in pixels; what lies beyond is cut off.
        cull: leave out triangles that run clockwise when looked at with y up.
    """
    fine = np.rint(vertices * STEPS).astype(np.int64)
    corners = fine[triangles]
    (ax, ay), (bx, by), (cx, cy) = (corners[:, at].T for at in range(3))
    # Above 0: clockwise on a canvas with y down, so counter-clockwise with y up is below 0.
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    kept = area < 0 if cull else area != 0
    triangles, corners, area = triangles[kept], corners[kept], area[kept]
    turned = area < 0
    triangles[turned] = triangles[turned][:, ::-1]
    corners[turned] = corners[turned][:, ::-1]
    rows = _rows(corners, canvas)
    if rows is None:
        return None
    triangle, y, first, last = rows
    x1, y1, y2 = int(first.min()), int(y.min()), int(y.max()) + 1
    width = int(last.max()) + 1 - x1
    owner = np.full((y2 - y1) * width, -1, np.int64)
    lengths = last - first + 1
    ends = lengths.cumsum()
    starts = (y - y1) * width + first - x1
    places = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    owner[places] = np.repeat(np.arange(len(y)), lengths)
    covered = np.flatnonzero(owner >= 0)
    row = owner[covered]
    x = covered % width + x1
    step, offset = _texel_maps(corners[:, :, :] / STEPS, uvs[triangles] * texture.size)
    texels = offset[triangle[row]] + step[triangle[row], :, 0] * (x + 0.5)[:, None]
    texels += step[triangle[row], :, 1] * (y[row] + 0.5)[:, None]
    longest = np.square(step).sum(1).max(1)
    level = 0.5 * np.log2(np.maximum(longest, 1))
    rgba = np.zeros(((y2 - y1) * width, 4), np.float32)
    rgba[covered] = sample(texture, texels, level[triangle[row]])
    return Drawn((x1, y1), rgba.reshape(y2 - y1, width, 4))


def _rows(corners: Ints, canvas: tuple[int, int]) -> tuple[Ints, Ints, Ints, Ints] | None:
    """Runs of pixels whose centres lie in triangles: triangle, y, first x, last x.

    A centre on an edge belongs to the triangle of which that edge is a left or the top one, so
    that neighbours share no pixel and leave none out. `corners` is (m, 3, 2), in steps, such that
    the inside lies where the edge function is above 0. None if there are no pixels.
    """
    half = STEPS // 2
    low = np.maximum(-((half - corners[..., 1].min(1)) // STEPS), 0)
    high = np.minimum((corners[..., 1].max(1) - half) // STEPS, canvas[1] - 1)
    heights = np.maximum(high - low + 1, 0)
    triangle = np.repeat(np.arange(len(corners)), heights)
    ends = heights.cumsum()
    y = np.arange(len(triangle)) + np.repeat(low - ends + heights, heights)
    first, last = np.zeros_like(y), np.full_like(y, canvas[0] - 1)
    for at in range(3):
        start, end = corners[:, at], corners[:, (at + 1) % 3]
        dx, dy = (end - start).T
        owned = (dy < 0) | ((dy == 0) & (dx > 0))
        # The pixel's x, times 256 dy, is at most this.
        limit = dx[triangle] * (STEPS * y + half - start[triangle, 1])
        limit -= (dy * (half - start[:, 0]) + ~owned)[triangle]
        rise = dy[triangle]
        bound = limit // np.where(rise == 0, 1, STEPS * np.abs(rise))
        last = np.where(rise > 0, np.minimum(last, bound), last)
        first = np.where(rise < 0, np.maximum(first, -bound), first)
        last = np.where((rise == 0) & (limit < 0), -1, last)
    kept = first <= last
    if not kept.any():
        return None
    return triangle[kept], y[kept], first[kept], last[kept]


def _texel_maps(corners: Floats, texels: Floats) -> tuple[Floats, Floats]:
    """The affine maps of triangles from pixels (m, 3, 2) to texels (m, 3, 2).

    Returns (m, 2, 2), d texel / d pixel, and (m, 2), what is added.
    """
    sides = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
    texel_sides = (texels[:, 1:] - texels[:, :1]).transpose(0, 2, 1)
    step = texel_sides @ np.linalg.inv(sides)
    return step, texels[:, 0] - (step @ corners[:, 0, :, None])[..., 0]


def sample(texture: Texture, texels: Floats, level: Floats) -> Premultiplied:
    """A texture's colours, between texels and between levels linearly.

    Args:
        texture: it ends at its borders, whose colour goes on.
        texels: (n, 2) x and y in texels of the largest level; centres lie at halves.
        level: (n,) level of detail: 0 is the largest level, 1 half of it.

    Returns:
        (n, 4) premultiplied RGBA in [0, 1].
    """
    level = np.clip(level, 0, len(texture.levels) - 1)
    below = level.astype(np.int64)
    share = (level - below).astype(np.float32)
    result = np.zeros((len(texels), 4), np.float32)
    for at, picture in enumerate(texture.levels):
        for weight, chosen in ((1 - share, below == at), (share, below == at - 1)):
            points = np.flatnonzero(chosen & (weight > 0))
            if not len(points):
                continue
            scale = np.array(picture.shape[1::-1]) / texture.size
            colors = _bilinear(picture, texels[points] * scale - 0.5)
            result[points] += colors * (weight[points, None] / np.float32(65535))
    return result


def _bilinear(picture: npt.NDArray[np.uint16], places: Floats) -> npt.NDArray[np.uint16]:
    """Colours at (n, 2) x and y, where texel centres lie at whole numbers."""
    count = len(places)
    rows = np.pad(places.astype(np.float32), ((0, -count % _ROW), (0, 0))).reshape(-1, _ROW, 2)
    mapped = cv2.remap(
        picture, rows[..., 0], rows[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(mapped, np.uint16).reshape(-1, 4)[:count]
