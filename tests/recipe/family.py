"""A small family of recipes with a field of every kind, for the tests of the language."""

import enum
from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.recipe import (
    REQUIRED,
    Execution,
    Experiment,
    Fraction,
    Hub,
    NonNegativeInt,
    Output,
    PositiveFloat,
    PositiveInt,
    Section,
    Source,
    Stage,
    change,
    evolve,
    recipe,
)


class Colour(enum.Enum):
    """How pictures are stored."""

    RGB = "rgb"
    RGBA = "rgba"


@recipe
class AdamW(Section):
    """Decoupled weight decay."""

    lr: PositiveFloat = 1e-4
    """Peak learning rate."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the two moments."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""


@recipe
class Adafactor(Section):
    """Factored second moments."""

    lr: PositiveFloat = 1e-3
    """Peak learning rate."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""

    scale: bool | None = None
    """Whether updates scale with the weights; none lets the size decide."""


@recipe
class Part(Section):
    """One list of samples."""

    source: Source = Hub("org/samples")
    """Where it lies."""

    rate: PositiveInt = 1
    """How often an epoch repeats it."""


@recipe
class Every(Section):
    """A field of every kind."""

    flag: bool = False
    """A switch."""

    count: PositiveInt = 3
    """A number of things."""

    share: Fraction = 0.5
    """A share."""

    name: str = "a name"
    """Free text."""

    mode: Literal["fast", "slow"] | None = "fast"
    """A choice."""

    colour: Colour = Colour.RGBA
    """A choice by enum."""

    limit: int | None = None
    """A number, or none."""

    title: str | None = None
    """Text, or none."""

    pair: tuple[int, float] = (1, 0.5)
    """Two numbers."""

    tags: tuple[str, ...] = ("face", "front hair")
    """Texts."""

    boxes: tuple[tuple[int, int], ...] = ((1, 2),)
    """Pairs."""

    base: Source | None = None
    """A source, or none."""

    sources: tuple[tuple[Source, int], ...] = ((Hub("org/list", "main"), 2),)
    """Sources with numbers."""

    size: PositiveFloat | Literal["auto"] = "auto"
    """A number or a word."""

    parts: tuple[Part, ...] = (Part(), Part(rate=2))
    """Sections in a tuple."""


@recipe
class Train(Stage):
    """A training stage."""

    implementation: ClassVar[str] = "tests.recipe.family:Train"
    outputs: ClassVar[tuple[str, ...]] = ("unet", "log")

    model: Source = Hub("org/base")
    """What training starts from."""

    optim: AdamW | Adafactor = AdamW()
    """The optimizer."""

    every: Every = Every()
    """A field of every kind."""

    batch: PositiveInt = 8
    """Samples a step on one process."""

    steps: PositiveInt = 100
    """Optimizer steps."""

    workers: Execution[NonNegativeInt] = 2
    """Processes that load data."""

    @property
    def samples(self) -> int:
        """Samples over the whole stage."""
        return self.batch * self.steps

    def check(self) -> Iterator[tuple[str, str]]:
        """Steps are whole epochs."""
        if self.steps % self.every.count == 0 and self.every.flag:
            yield "every.count", f"{self.every.count} divides the {self.steps} steps"


@recipe
class Chain(Experiment):
    """Two stages, the second of which goes on from the first."""

    first: Train = Train(optim=AdamW(lr=3e-4))
    """The first stage."""

    second: Train = Train(model=Output("first", "unet"))
    """The second stage."""

    def rehearsal(self) -> "Chain":
        """Fewer steps."""
        return evolve(
            self,
            first=evolve(small(self.first), every=change(Every, count=1)),
            second=evolve(self.second, steps=2, every=change(Every, count=1)),
        )


def small(stage: Train) -> Train:
    """The stage with one step."""
    return evolve(stage, steps=1)


@recipe
class Incomplete(Experiment):
    """An experiment that needs a value and has two at odds."""

    first: Train = Train(model=REQUIRED)
    """Lacks its model."""

    second: Train = Train(
        model=Output("third", "unet"),
        every=Every(flag=True, count=4),
    )
    """Goes on from a later stage, and its count divides the steps."""

    third: Train = Train(model=Output("first", "weights"))
    """Takes an output that nobody makes."""
