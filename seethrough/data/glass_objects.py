"""Glass-like objects: their outlines, and how what lies behind is seen through them.

Colours are RGB in [0, 1] as pictures store them, reckoned with as if they were linear.
"""

from collections.abc import Callable
from typing import Literal

import attrs
import cv2
import numpy as np

Kind = Literal["things", "stuff"]

TINTS = ((0.78, 0.95, 0.87), (0.75, 0.89, 0.98), (0.97, 0.85, 0.63), (0.85, 0.90, 0.93))
"""Share of red, green and blue that a layer of glass lets through: green, blue, amber, grey."""

_STEEPEST = 3.0
"""Slopes of a surface are cut off here: at an outline they would be infinite."""


@attrs.frozen
class Glass:
    """One object in a scene."""

    kind: Kind
    """Things are vessels and balls, stuff are panes."""
    outline: np.ndarray
    """(N, 2): x and y of the corners, in shares of the scene's side."""
    rim: float
    """How far the surface curves, as a share of the largest distance to the outline."""
    tint: tuple[float, float, float]
    """One of `TINTS`."""
    refraction: float
    """By how much what lies behind is displaced, in heights of the surface."""
    offset: tuple[float, float]
    """By how much it is displaced everywhere, in shares of the side."""
    light: tuple[float, float]
    """Direction that light comes from: x and y of a unit vector's share in the picture."""
    visibility: float
    """In [0, 1]: scales the tint, the reflection and the highlight, not the refraction."""


def draw_glass(random: np.random.Generator, visibility: float) -> Glass:
    """Draw one object anywhere in a scene: two in three are things."""
    kind: Kind = "things" if random.random() < 2 / 3 else "stuff"
    if kind == "things":
        profile = _PROFILES[int(random.integers(len(_PROFILES)))](random)
        outline = np.concatenate([profile, profile[::-1] * (-1, 1)])
        half = random.uniform(0.18, 0.34)
        turn = random.normal(0, 0.12)
        rim = float(random.uniform(0.5, 1.0))
        refraction, offset = float(random.uniform(0.5, 0.9)), (0.0, 0.0)
    else:
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
        outline = corners * (random.uniform(0.6, 1), 1) + random.uniform(-0.15, 0.15, (4, 2))
        half = random.uniform(0.22, 0.4)
        turn = random.normal(0, 0.08)
        rim = float(random.uniform(0.08, 0.16))
        refraction = float(random.uniform(0.3, 0.6))
        offset = tuple(random.uniform(-0.03, 0.03, 2).tolist())
    cos, sin = np.cos(turn), np.sin(turn)
    outline = half * outline @ np.array([[cos, sin], [-sin, cos]])
    outline += random.uniform(half, 1 - half, 2)
    light = random.uniform(0.25, 0.75) * np.pi
    return Glass(
        kind=kind,
        outline=outline,
        rim=rim,
        tint=TINTS[int(random.integers(len(TINTS)))],
        refraction=refraction,
        offset=(float(offset[0]), float(offset[1])),
        light=(float(np.cos(light)), -float(np.sin(light))),
        visibility=visibility,
    )


def place_glass(scene: np.ndarray, glass: Glass) -> tuple[np.ndarray, np.ndarray]:
    """Put an object before a scene.

    (S, S, 3) RGB in [0, 1] -> the same with the object, and its coverage, (S, S) in [0, 1].
    """
    side = scene.shape[0]
    coverage = _fill(glass.outline, side)
    distance = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    reach = max(float(distance.max()) * glass.rim, 1.0)
    bulge = np.sqrt(np.clip(1 - (1 - np.minimum(distance / reach, 1)) ** 2, 0, 1))
    bulge = cv2.GaussianBlur(bulge, (0, 0), 0.01 * side)
    slopes = np.clip(np.array(np.gradient(bulge * reach)), -_STEEPEST, _STEEPEST)
    slope_y, slope_x = slopes[0], slopes[1]
    seen = _refracted(scene, glass, bulge * reach, slope_x, slope_y)
    upright = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    thickness = (0.35 + 0.65 * bulge)[..., None]
    seen = seen * np.asarray(glass.tint, np.float32) ** (2.5 * glass.visibility * thickness)
    # Schlick's approximation: glass seen at a grazing angle reflects its bright surroundings.
    reflected = glass.visibility * (0.08 + 0.7 * (1 - upright) ** 2)
    highlight = glass.visibility * _highlight(glass, upright, slope_x, slope_y)
    shown = seen * (1 - reflected[..., None]) + (0.85 * reflected + highlight)[..., None]
    cover = coverage[..., None]
    return np.clip(scene * (1 - cover) + shown * cover, 0, 1).astype(np.float32), coverage


def _fill(outline: np.ndarray, side: int) -> np.ndarray:
    """Coverage of a polygon, (side, side) in [0, 1], with soft edges."""
    plane = np.zeros((side, side), np.uint8)
    points = np.rint(outline * side * 256).astype(np.int32)
    cv2.fillPoly(plane, [points], 255, lineType=cv2.LINE_AA, shift=8)
    return plane.astype(np.float32) / 255


def _refracted(
    scene: np.ndarray, glass: Glass, height: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray
) -> np.ndarray:
    """What is seen through: light bends towards where the surface is higher."""
    side = scene.shape[0]
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    bend = glass.refraction * height
    return cv2.remap(
        scene,
        (columns + bend * slope_x + glass.offset[0] * side).astype(np.float32),
        (rows + bend * slope_y + glass.offset[1] * side).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _highlight(
    glass: Glass, upright: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray
) -> np.ndarray:
    """Phong's highlight of one light: (S, S), a streak along the edge that faces it."""
    towards = 0.75
    facing = -(slope_x * glass.light[0] + slope_y * glass.light[1]) * upright * towards
    facing += upright * np.sqrt(1 - towards**2)
    return 0.9 * np.clip(facing, 0, 1) ** 24


def _ball(random: np.random.Generator) -> np.ndarray:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 24)
    return np.stack([np.cos(turn) * random.uniform(0.75, 1), np.sin(turn)], axis=1)


def _tumbler(random: np.random.Generator) -> np.ndarray:
    top, bottom = random.uniform(0.5, 0.75), random.uniform(0.35, 0.5)
    return np.array([(top, -1), (bottom, 0.92), (bottom - 0.08, 1)])


def _bottle(random: np.random.Generator) -> np.ndarray:
    neck, body, shoulder = random.uniform((0.14, 0.36, -0.3), (0.2, 0.5, 0.0))
    return np.array(
        [(neck, -1), (neck, shoulder - 0.3), (body, shoulder), (body, 0.94), (body - 0.06, 1)]
    )


def _bowl(random: np.random.Generator) -> np.ndarray:
    turn = np.linspace(0, np.pi / 2, 16)
    depth = random.uniform(0.6, 1.0)
    return np.stack([np.cos(turn), depth * (np.sin(turn) - 0.5)], axis=1)


def _goblet(random: np.random.Generator) -> np.ndarray:
    cup, stem, foot = random.uniform((0.45, 0.06, 0.3), (0.6, 0.1, 0.45))
    return np.array(
        [(cup * 0.85, -1), (cup, -0.5), (cup * 0.7, -0.05), (stem, 0.15), (stem, 0.85), (foot, 1)]
    )


_PROFILES: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    _ball,
    _tumbler,
    _bottle,
    _bowl,
    _goblet,
)
"""Draw the right half of an outline, from top to bottom: (N, 2), x from 0 and y in [-1, 1]."""
