"""Training samples of layered characters: each drawn on pages of its own, before a background.

Distributions are those of the published renderer where a docstring doesn't say otherwise.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from seethrough.recipe import (
    REQUIRED,
    Execution,
    Experiment,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    Section,
    Source,
    recipe,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.sharded import ShardedStage

Level = Annotated[int, Range(ge=0, le=254)]


@recipe
class PageGeometry(Section):
    """How large the character and its page are, and where it stands."""

    long_side: tuple[PositiveInt, PositiveInt] = (1280, 1280)
    """Least and most of the character's longer side in px, uniform. It is shrunk to that, never
    enlarged; scales are multiples of 1/64, so that it may come out up to 1/64 of the character's
    own side smaller, and all layers lie on one grid."""

    page_side: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.5)
    """Least and most of the page's side along the character's longer one, as a multiple of it,
    uniform. The other side is uniform from the character's own to that. A character as wide as
    high has a square page. It stands anywhere on the page, uniform."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _ordered("long_side", self.long_side)
        yield from _ordered("page_side", self.page_side)
        if self.page_side[0] < 1:
            yield "page_side", "the page has to hold the character: give 1 or more"


@recipe
class PageBackground(Section):
    """What is behind the character. Without pictures it is drawn."""

    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """A picture is scaled until it covers the page, then by a factor from this range, uniform, and
    cut to the page anywhere, uniform. The published renderer means to scale and then cuts at the
    picture's own scale, as `compat` does."""

    plain: Fraction = 0.5
    """Of drawn backgrounds, the share of one colour; the others run from colour to colour. Ours:
    the published renderer has none."""

    colour_patches: tuple[PositiveInt, PositiveInt] = (2, 6)
    """Least and most colours along a side of those others."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _ordered("zoom", self.zoom)
        yield from _ordered("colour_patches", self.colour_patches)
        if self.zoom[0] < 1:
            yield "zoom", "the picture has to cover the page: give 1 or more"


@recipe
class PageColour(Section):
    """How colours are changed. A change of the character is one of all its layers."""

    match: Fraction = 716 / 2048
    """Probability that the background's histogram is brought to the character's."""

    match_above: NonNegativeInt = 128
    """It is, where the character has more distinct values of red than this."""

    quantise: Fraction = 0.0
    """Probability of few colours, common to character and background, in place of `match`."""

    quantise_colours: tuple[PositiveInt, ...] = (12, 16, 32)
    """How many, each as likely as the others."""

    hsv: Fraction = 0.0
    """Probability that hue, saturation and value of character and background are changed; here 0,
    as the datasets do that."""

    hsv_ranges: tuple[Fraction, NonNegativeFloat, NonNegativeFloat] = (0.015, 0.6, 0.4)
    """Widest such change, of hue as a share of the circle, of the others as a share of themselves;
    uniform."""

    light: Fraction = 0.0
    """Probability of a light that falls on character and background from one side. Ours."""

    light_gain: tuple[NonNegativeFloat, NonNegativeFloat] = (0.6, 1.2)
    """Factors of colour between which both ends of the light are drawn, uniform."""

    light_tint: Fraction = 0.1
    """Widest deviation of a channel's factor, as a share of it, uniform."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _ordered("light_gain", self.light_gain)
        if self.match + self.quantise > 1:
            yield "quantise", "a page has at most one of match and quantise: together at most 1"
        if not self.quantise_colours or not all(1 < k <= 256 for k in self.quantise_colours):
            yield "quantise_colours", "needs at least one number from 2 to 256"


@recipe
class RenderOptions(Section):
    """How a sample is drawn."""

    geometry: PageGeometry = PageGeometry()
    """Sizes and places."""

    background: PageBackground = PageBackground()
    """What is behind."""

    colour: PageColour = PageColour()
    """Colour and light."""

    seen_above: Level = 25
    """Alpha, of 255, above which a layer's pixel counts in masks and depths."""

    hidden_above: Fraction = 0.9
    """Cover by the layers before it above which a pixel is hidden."""

    compat: bool = False
    """Go by the published renderer's rules, right or wrong: alphas add up, on the page and in what
    is hidden; values are cut off, not rounded; layers have premultiplied colour, and no blend mode;
    backgrounds are cut at their own scale; the mask of `head` is empty; annotations name V2's tags
    whether or not they exist, V3's only where they do, and only footwear and objects are marked
    valid. Bit for bit for a character that need not be shrunk, but for the random numbers."""

    def check(self) -> Iterator[tuple[str, str]]:
        if self.compat and self.background.zoom != (1.0, 1.0):
            yield "background.zoom", "compat scales no background"


@recipe
class Render(ShardedStage):
    """Draws samples of labelled characters. A sample follows from (seed, character, index)."""

    implementation: ClassVar[str] = "seethrough.tasks.render:render"
    outputs: ClassVar[tuple[str, ...]] = ("samples",)

    characters: Source = REQUIRED
    """Folder of characters, as `python -m seethrough.ingest` and `label` leave it."""

    backgrounds: Source | None = None
    """Folder or list of pictures to put behind; without, backgrounds are drawn."""

    options: RenderOptions = RenderOptions()
    """How a sample is drawn."""

    samples_each: PositiveInt = 1
    """Samples of each character; published: 1."""

    seed: int = 42
    """Seed of all samples."""


@recipe
class RenderChain(Experiment):
    """Renders samples, and nothing else."""

    render: Render = Render()
    """Samples in the published layout."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""


def _ordered(name: str, bounds: tuple[float, float]) -> Iterator[tuple[str, str]]:
    if bounds[0] > bounds[1]:
        yield name, f"the least, {bounds[0]:g}, is above the most, {bounds[1]:g}"
