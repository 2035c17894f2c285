"""What the flags of `python -m seethrough.import_yaml` say."""

from seethrough.import_yaml.layouts import Program
from seethrough.recipe import PositiveInt, Section, recipe


@recipe
class ImportSettings(Section):
    """What a configuration doesn't tell."""

    program: Program | None = None
    """The training program that it is of; none goes by its keys."""

    part: PositiveInt | None = None
    """Which of several configurations that were pasted into one file, from 1."""

    processes: PositiveInt | None = None
    """GPUs that it ran on; none takes the recipe's."""

    samples: PositiveInt | None = None
    """Samples of an epoch, repeats counted, for lengths in epochs; none leaves the recipe's
    length."""
