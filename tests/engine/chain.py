"""The experiment of the engine's tests: rows of numbers, a perceptron, a sum."""

from typing import ClassVar

from seethrough.recipe import (
    Execution,
    Experiment,
    NonNegativeFloat,
    Output,
    PositiveInt,
    Source,
    Stage,
    change,
    recipe,
)
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import (
    AdamW,
    AnyOptim,
    Data,
    Device,
    Hardware,
    Schedule,
    Tracking,
    TrainStage,
)


@recipe
class Rows(Stage):
    """Writes rows of numbers."""

    implementation: ClassVar[str] = "tests.engine.toy:write_rows"
    outputs: ClassVar[tuple[str, ...]] = ("rows",)

    count: PositiveInt = 20
    """How many."""

    scale: Source | None = None
    """A file with a number to multiply them with."""

    hardware: Execution[Device] = Device(device="cpu")
    """Where."""


@recipe
class Perceptron(TrainStage):
    """Trains a perceptron on the rows."""

    implementation: ClassVar[str] = "tests.engine.toy:PerceptronTask"
    outputs: ClassVar[tuple[str, ...]] = ("weights",)

    data: Data = change(Data, sources=((Output("rows", "rows"), 1),), global_batch=8)
    """All rows."""

    optim: AnyOptim = change(AdamW, lr=1e-2, precision="fp32")
    """Optimizer."""

    schedule: Schedule = change(
        Schedule, max_steps=6, warmup_steps=1, checkpoint_every=2, pictures_every=None
    )
    """A few steps."""

    hardware: Execution[Hardware] = change(
        Hardware, device="cpu", micro_batch=2, loader_workers=0, threads=1
    )
    """One thread."""

    tracking: Execution[Tracking] = change(Tracking, tracker=None)
    """Nothing but the log."""

    width: PositiveInt = 16
    """Width of the hidden layers."""

    weighted: bool = False
    """Weigh samples differently, some not at all."""

    nan_step: int | None = None
    """Step at which row 3 has a loss that is not a number."""

    nan_gradient_step: int | None = None
    """Step at which the gradient is not a number although the loss is one."""

    bad_row: int | None = None
    """A row that can't be read."""

    bug_row: int | None = None
    """A row on which the code fails."""

    pause: Execution[NonNegativeFloat] = 0.0
    """Seconds that each micro-batch takes longer."""


@recipe
class Total(Stage):
    """Adds up the trained weights."""

    implementation: ClassVar[str] = "tests.engine.toy:add_up"
    outputs: ClassVar[tuple[str, ...]] = ("total", "count")

    weights: Source = Output("train", "weights")
    """The trained weights."""


@recipe
class Chain(Experiment):
    """All three."""

    rows: Rows = Rows()
    """Data."""

    train: Perceptron = Perceptron()
    """Training."""

    total: Total = Total()
    """What is made of it."""

    environment: Execution[Environment] = Environment()
    """Data roots and variables."""
