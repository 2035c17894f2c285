"""Random changes of photos, as the published training of transparency segmentation makes them.

Mirroring changes the mask too, everything else the photo alone. The values are those that
albumentations 2.0.8 gives the published configuration.
"""

import math

import attrs
import cv2
import numpy as np

from seethrough.data.draws import Draw

COLOUR = 0.2
"""Brightness, contrast and saturation are multiplied by 1 plus or minus at most this."""
HUE = 0.1
"""By how much hue is turned at most, as a share of the circle."""
KERNEL_SIDES = range(11, 32, 2)
"""Sides of a blur's kernel in pixels."""
SIGMA = (0.5, 3.0)
"""Standard deviation of a Gaussian blur in pixels."""
NOISE = (0.1, 0.3)
"""Standard deviation of noise, as a share of white."""


@attrs.frozen
class ColourChange:
    """Changes of colour, one after the other."""

    steps: tuple[tuple[str, float], ...]
    """(what, factor), in order: of brightness, contrast and saturation what they are multiplied
    by, of hue by how much it is turned, as a share of the circle."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Change colours: (H, W, 3) uint8 RGB -> the same."""
        for what, factor in self.steps:
            photo = _COLOURS[what](photo, factor)
        return photo


@attrs.frozen
class MotionBlur:
    """A blur along a straight line, one pixel wide."""

    side: int
    """Of the kernel, odd."""
    angle: float
    """Of the line, in turns."""
    direction: float
    """In [-1, 1]: 1 leaves out the half of the line before its middle, -1 that behind it."""
    shift: tuple[float, float]
    """x and y in [-1, 1]: the line's middle moves by these shares of a quarter of the side."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Blur: (H, W, 3) uint8 -> the same."""
        return cv2.filter2D(photo, -1, self.kernel(), borderType=cv2.BORDER_REFLECT_101)

    def kernel(self) -> np.ndarray:
        """(side, side) float32, equal weights on the line, summing to 1."""
        reach = self.side // 2
        ends = -reach * (1 - max(self.direction, 0.0)), reach * (1 + min(self.direction, 0.0))
        along = np.linspace(*ends, self.side)
        turn = 2 * math.pi * self.angle
        x = reach + math.cos(turn) * along + self.shift[0] * reach / 2
        y = reach + math.sin(turn) * along + self.shift[1] * reach / 2
        kernel = np.zeros((self.side, self.side), np.float32)
        rows, columns = (np.clip(np.rint(place), 0, self.side - 1).astype(int) for place in (y, x))
        kernel[rows, columns] = 1
        return kernel / kernel.sum()


@attrs.frozen
class GaussianBlur:
    """A Gaussian blur whose kernel is cut off."""

    side: int
    """Of the kernel, odd."""
    sigma: float
    """Standard deviation in pixels."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Blur: (H, W, 3) uint8 -> the same."""
        return cv2.GaussianBlur(photo, (self.side, self.side), self.sigma)


@attrs.frozen
class Noise:
    """Gaussian noise, another for each pixel and channel."""

    std: float
    """Standard deviation as a share of white."""
    draw: Draw
    """Whose generator the noise comes from."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Add noise: (H, W, 3) uint8 -> the same, clipped."""
        random = self.draw.numpy("noise of pixels")
        # In place: a photo of a camera takes hundreds of MB as float.
        noisy = random.standard_normal(photo.shape, np.float32)
        noisy *= self.std * 255
        noisy += photo
        np.clip(np.rint(noisy, out=noisy), 0, 255, out=noisy)
        return noisy.astype(np.uint8)


@attrs.frozen
class PhotoChange:
    """What happens to one photo, and to its mask."""

    flip: bool
    """Whether both are mirrored left to right."""
    colour: ColourChange | None
    blur: MotionBlur | GaussianBlur | None
    noise: Noise | None

    def __call__(self, photo: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change a photo, (H, W, 3) uint8 RGB, and its mask, (H, W)."""
        if self.flip:
            photo, mask = np.ascontiguousarray(photo[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        for change in (self.colour, self.blur, self.noise):
            if change is not None:
                photo = change(photo)
        return photo, mask


def photo_change(
    draw: Draw, *, flip: float, colour: float, blur: float, noise: float
) -> PhotoChange:
    """Choose a draw's change; each part has its probability, independently of the others."""
    return PhotoChange(
        flip=bool(draw.numpy("flip").random() < flip),
        colour=_colour_change(draw, colour),
        blur=_blur(draw, blur),
        noise=_noise(draw, noise),
    )


def _colour_change(draw: Draw, probability: float) -> ColourChange | None:
    random = draw.numpy("colour")
    if random.random() >= probability:
        return None
    places = dict(zip(_COLOURS, random.uniform(-1, 1, len(_COLOURS)).tolist(), strict=True))
    factors = {
        what: place * HUE if what == "hue" else 1 + place * COLOUR for what, place in places.items()
    }
    order = random.permutation(list(_COLOURS)).tolist()
    return ColourChange(tuple((what, factors[what]) for what in order))


def _blur(draw: Draw, probability: float) -> MotionBlur | GaussianBlur | None:
    random = draw.numpy("blur")
    chance, kind = random.random(2).tolist()
    if chance >= probability:
        return None
    side = int(random.choice(KERNEL_SIDES))
    if kind < 0.5:
        direction, x, y = random.uniform(-1, 1, 3).tolist()
        return MotionBlur(side, random.random(), direction, (x, y))
    return GaussianBlur(side, random.uniform(*SIGMA))


def _noise(draw: Draw, probability: float) -> Noise | None:
    random = draw.numpy("noise")
    chance = random.random()
    std = random.uniform(*NOISE)
    return Noise(std, draw) if chance < probability else None


def _brightness(photo: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(photo, alpha=factor)


def _contrast(photo: np.ndarray, factor: float) -> np.ndarray:
    mean = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).mean()
    levels = np.arange(256) * factor + mean * (1 - factor)
    return cv2.LUT(photo, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _saturation(photo: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return cv2.addWeighted(photo, factor, cv2.merge([grey, grey, grey]), 1 - factor, 0)


def _hue(photo: np.ndarray, turn: float) -> np.ndarray:
    hsv = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)  # hue is in 0..179
    hue = (np.arange(256) + round(turn * 180)) % 180
    hsv[..., 0] = cv2.LUT(hsv[..., 0], hue.astype(np.uint8))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


_COLOURS = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
