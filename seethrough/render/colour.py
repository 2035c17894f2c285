"""Changes of colour: of a background to match a character, and of both at once."""

import math

import attrs
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from seethrough.data.colours import HsvChange
from seethrough.recipes.render import PageColour
from seethrough.render.geometry import Image8

_SAMPLED = 2048
"""Pixels of character and of background that a palette is made from, each."""


@attrs.frozen
class ColourPlan:
    """What is changed on one page."""

    match: bool
    """Bring the background's histogram to the character's."""
    quantise: int | None
    """To so many colours."""
    hsv: HsvChange | None
    light: "Light | None"


@attrs.frozen
class Light:
    """Light from one side: a factor of each channel that runs straight across the page."""

    angle: float
    """Of the direction in which it runs, in radians."""
    first: tuple[float, float, float]
    """Factors of red, green and blue where it begins."""
    last: tuple[float, float, float]
    """Where it ends."""
    size: tuple[int, int]
    """Height and width of the page."""

    def __call__(self, rgb: Image8, corner: tuple[int, int]) -> Image8:
        """Light (h, w, 3) RGB whose first pixel lies at (x, y) of the page."""
        height, width = rgb.shape[:2]
        dx, dy = math.cos(self.angle), math.sin(self.angle)
        reach = (abs(dx) * self.size[1] + abs(dy) * self.size[0]) / 2
        x = np.arange(width, dtype=np.float32) + np.float32(corner[0] + 0.5 - self.size[1] / 2)
        y = np.arange(height, dtype=np.float32) + np.float32(corner[1] + 0.5 - self.size[0] / 2)
        place = (x * np.float32(dx) + y[:, None] * np.float32(dy)) / np.float32(2 * reach) + 0.5
        lit = np.empty_like(rgb)
        for channel, (first, last) in enumerate(zip(self.first, self.last, strict=True)):
            factor = place * np.float32(last - first) + np.float32(first)
            lit[..., channel] = np.rint(rgb[..., channel] * factor).clip(0, 255)
        return lit


def plan_colour(
    random: np.random.Generator, size: tuple[int, int], options: PageColour
) -> ColourPlan:
    """Draw what is changed on a page of (height, width)."""
    chance, hsv_chance, light_chance = random.random(3).tolist()
    quantise = int(random.choice(options.quantise_colours))
    change = HsvChange(*(random.uniform(-width, width) for width in options.hsv_ranges))
    gains = random.uniform(*options.light_gain, (2, 1))
    gains = gains * (1 + random.uniform(-options.light_tint, options.light_tint, (2, 3)))
    first, last = (tuple(end) for end in gains.tolist())
    light = Light(random.uniform(0, 2 * math.pi), first, last, size)
    return ColourPlan(
        match=chance < options.match,
        quantise=quantise if 0 <= chance - options.match < options.quantise else None,
        hsv=change if hsv_chance < options.hsv else None,
        light=light if light_chance < options.light else None,
    )


def hsv_changed(rgb: Image8, change: HsvChange) -> Image8:
    """Change hue, saturation and value of (h, w, 3) RGB."""
    return np.ascontiguousarray(np.moveaxis(change(np.moveaxis(rgb, 2, 0)), 0, 2))


def match_histogram(
    background: Image8, character: Image8, above: int, compat: bool = False
) -> Image8:
    """Bring the histogram of each channel of a background to that of a character.

    (H, W, 3) RGB, and (h, w, 4) RGBA of which the pixels with any alpha count. The background is
    left as it is unless these have more than `above` distinct values of red. Values are rounded;
    with `compat` cut off.
    """
    shown = (character[..., 3] > 0).view(np.uint8)
    wanted = [_histogram(character, channel, shown) for channel in range(3)]
    if np.count_nonzero(wanted[0]) <= above:
        return background
    table = np.zeros((256, 1, 3), np.uint8)
    for channel, counts in enumerate(wanted):
        found = _histogram(background, channel, None)
        values, target = np.flatnonzero(found), np.flatnonzero(counts)
        share = np.cumsum(found)[values] / found.sum()
        mapped = np.interp(share, np.cumsum(counts)[target] / counts.sum(), target)
        table[values, 0, channel] = mapped if compat else np.rint(mapped)
    return cv2.LUT(background, table)


def find_palette(
    random: np.random.Generator, character: Image8, background: Image8, count: int
) -> Image.Image:
    """A palette of `count` colours for both.

    `character` is (h, w, 4) straight RGBA, of which opaque pixels count, `background` (H, W, 3).
    """
    both = character[character[..., 3] == 255][:, :3], background.reshape(-1, 3)
    chosen = [pixels[random.integers(len(pixels), size=_SAMPLED)] for pixels in both if len(pixels)]
    return Image.fromarray(np.concatenate(chosen)[None]).quantize(
        count, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE
    )


def quantised(rgb: Image8, palette: Image.Image) -> Image8:
    """Bring each pixel of (h, w, 3) RGB to the nearest colour of a palette."""
    indices = Image.fromarray(rgb).quantize(palette=palette, dither=Image.Dither.NONE)
    return np.asarray(indices.convert("RGB"))


def _histogram(picture: Image8, channel: int, mask: Image8 | None) -> npt.NDArray[np.int64]:
    counts = cv2.calcHist([picture], [channel], mask, [256], [0, 256])
    return counts.ravel().astype(np.int64)
