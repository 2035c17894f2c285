"""Draws a picture over another one in a blend mode: the compositing formulas of the W3C.

Source: https://www.w3.org/TR/compositing-1/; the modes that it lacks, from `add` on, mix as
Photoshop's of the same names do. Colours are float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating]
Blend = Callable[[Plane, Plane], Plane]
"""Mixed colour of an opaque backdrop and an opaque source, each (..., 3) straight."""

LUMA = np.array([0.3, 0.59, 0.11], np.float32)


def draw(color: Plane, alpha: Plane, source: Plane, source_alpha: Plane, mode: str) -> None:
    """Draw a source over a canvas, in place.

    Args:
        color: the canvas' premultiplied colour, (h, w, 3).
        alpha: its alpha, (h, w).
        source: the source's straight colour, (h, w, 3).
        source_alpha: its alpha, (h, w), with all that thins it.
        mode: one of `BLEND_MODES`.
    """
    if mode == "normal":
        mixed = source
    else:
        straight = np.divide(
            color, alpha[..., None], out=np.zeros_like(color), where=alpha[..., None] > 0
        )
        mixed = _mix(straight.clip(0, 1), alpha, source, mode)
    behind = (1 - source_alpha)[..., None]
    color *= behind
    color += mixed * source_alpha[..., None]
    alpha *= behind[..., 0]
    alpha += source_alpha


def draw_atop(color: Plane, alpha: Plane, source: Plane, source_alpha: Plane, mode: str) -> None:
    """Draw a source where a picture is, in place; the picture's alpha stays as it is.

    Arguments as `draw`'s, but for `color`, which is straight here.
    """
    mixed = _mix(color, alpha, source, mode)
    color += (mixed - color) * source_alpha[..., None]


def _mix(backdrop: Plane, alpha: Plane, source: Plane, mode: str) -> Plane:
    """A source's colour after it was blended with a straight backdrop of some alpha."""
    blended = np.clip(BLEND_MODES[mode](backdrop, source), 0, 1)
    # Where the backdrop is transparent there is nothing to mix with, and the source shows alone.
    return source + (blended - source) * alpha[..., None]


def _divide(numerator: Plane, denominator: Plane) -> Plane:
    """A quotient, at most 1; 0 / 0 is 0 and anything else / 0 is 1."""
    result = np.where(numerator > 0, np.float32(1), np.float32(0))
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return np.minimum(result, 1)


def _normal(_backdrop: Plane, source: Plane) -> Plane:
    return source


def _multiply(backdrop: Plane, source: Plane) -> Plane:
    return backdrop * source


def _screen(backdrop: Plane, source: Plane) -> Plane:
    return backdrop + source - backdrop * source


def _hard_light(backdrop: Plane, source: Plane) -> Plane:
    return np.where(
        source <= 0.5, _multiply(backdrop, 2 * source), _screen(backdrop, 2 * source - 1)
    )


def _overlay(backdrop: Plane, source: Plane) -> Plane:
    return _hard_light(source, backdrop)


def _color_dodge(backdrop: Plane, source: Plane) -> Plane:
    return _divide(backdrop, 1 - source)


def _color_burn(backdrop: Plane, source: Plane) -> Plane:
    return 1 - _divide(1 - backdrop, source)


def _soft_light(backdrop: Plane, source: Plane) -> Plane:
    lighter = np.where(
        backdrop <= 0.25, ((16 * backdrop - 12) * backdrop + 4) * backdrop, np.sqrt(backdrop)
    )
    return np.where(
        source <= 0.5,
        backdrop - (1 - 2 * source) * backdrop * (1 - backdrop),
        backdrop + (2 * source - 1) * (lighter - backdrop),
    )


def _difference(backdrop: Plane, source: Plane) -> Plane:
    return np.abs(backdrop - source)


def _exclusion(backdrop: Plane, source: Plane) -> Plane:
    return backdrop + source - 2 * backdrop * source


def _add(backdrop: Plane, source: Plane) -> Plane:
    return np.minimum(backdrop + source, 1)


def _subtract(backdrop: Plane, source: Plane) -> Plane:
    return np.maximum(backdrop - source, 0)


def _linear_burn(backdrop: Plane, source: Plane) -> Plane:
    return np.maximum(backdrop + source - 1, 0)


def _linear_light(backdrop: Plane, source: Plane) -> Plane:
    return np.clip(backdrop + 2 * source - 1, 0, 1)


def _vivid_light(backdrop: Plane, source: Plane) -> Plane:
    return np.where(
        source <= 0.5,
        _color_burn(backdrop, np.minimum(2 * source, 1)),
        _color_dodge(backdrop, np.maximum(2 * source - 1, 0)),
    )


def _pin_light(backdrop: Plane, source: Plane) -> Plane:
    return np.where(
        source <= 0.5, np.minimum(backdrop, 2 * source), np.maximum(backdrop, 2 * source - 1)
    )


def _hard_mix(backdrop: Plane, source: Plane) -> Plane:
    return (backdrop + source >= 1).astype(np.float32)


def _luma(color: Plane) -> Plane:
    return (color @ LUMA)[..., None]


def _with_luma(color: Plane, luma: Plane) -> Plane:
    """A colour moved to a luma, and pulled towards gray as far as it leaves [0, 1]."""
    color = color + (luma - _luma(color))
    low, high = color.min(-1, keepdims=True), color.max(-1, keepdims=True)
    away = color - luma
    color = np.where(low < 0, luma + away * luma / np.maximum(luma - low, 1e-6), color)
    return np.where(high > 1, luma + away * (1 - luma) / np.maximum(high - luma, 1e-6), color)


def _saturation(color: Plane) -> Plane:
    return color.max(-1, keepdims=True) - color.min(-1, keepdims=True)


def _with_saturation(color: Plane, saturation: Plane) -> Plane:
    span = _saturation(color)
    low = color.min(-1, keepdims=True)
    return np.divide((color - low) * saturation, span, out=np.zeros_like(color), where=span > 0)


def _hue(backdrop: Plane, source: Plane) -> Plane:
    return _with_luma(_with_saturation(source, _saturation(backdrop)), _luma(backdrop))


def _saturate(backdrop: Plane, source: Plane) -> Plane:
    return _with_luma(_with_saturation(backdrop, _saturation(source)), _luma(backdrop))


def _color(backdrop: Plane, source: Plane) -> Plane:
    return _with_luma(source, _luma(backdrop))


def _luminosity(backdrop: Plane, source: Plane) -> Plane:
    return _with_luma(backdrop, _luma(source))


def _darker_color(backdrop: Plane, source: Plane) -> Plane:
    return np.where(_luma(source) < _luma(backdrop), source, backdrop)


def _lighter_color(backdrop: Plane, source: Plane) -> Plane:
    return np.where(_luma(source) > _luma(backdrop), source, backdrop)


BLEND_MODES: dict[str, Blend] = {
    "normal": _normal,
    "multiply": _multiply,
    "screen": _screen,
    "overlay": _overlay,
    "darken": np.minimum,
    "lighten": np.maximum,
    "color-dodge": _color_dodge,
    "color-burn": _color_burn,
    "hard-light": _hard_light,
    "soft-light": _soft_light,
    "difference": _difference,
    "exclusion": _exclusion,
    "hue": _hue,
    "saturation": _saturate,
    "color": _color,
    "luminosity": _luminosity,
    "add": _add,
    "subtract": _subtract,
    "divide": _divide,
    "linear-burn": _linear_burn,
    "linear-light": _linear_light,
    "vivid-light": _vivid_light,
    "pin-light": _pin_light,
    "hard-mix": _hard_mix,
    "darker-color": _darker_color,
    "lighter-color": _lighter_color,
}
"""What a layer's `blend` may say, with the function that mixes; `add` is linear dodge."""
