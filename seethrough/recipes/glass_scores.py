"""How a rehearsal's model of transparency compares with a threshold."""

from typing import ClassVar

from seethrough.recipe import Execution, Output, PositiveFloat, PositiveInt, Source, Stage, recipe
from seethrough.recipes.training import Device


@recipe
class GlassScores(Stage):
    """Measures a trained transformer on the test split, beside what needs no network.

    That is a threshold on brightness, saturation or contrast of the photo, chosen with its
    smoothing on the training split.
    """

    implementation: ClassVar[str] = "seethrough.tasks.glass_scores:measure"
    outputs: ClassVar[tuple[str, ...]] = ("scores",)

    scenes: Source = Output("scenes", "scenes")
    """Photos and masks in the layout of Trans10K."""

    transformer: Source = Output("train", "transformer")
    """The trained transformer."""

    base: Source = Output("base", "base")
    """The base that it was trained from; its autoencoder is taken."""

    prompt: Source = Output("prompt", "prompt")
    """The stored empty prompt."""

    resolution: PositiveInt = 64
    """Side in px of the squares that the transformer was trained on."""

    timestep: PositiveFloat = 1000.0
    """The timestep that it was told, if it is of one step."""

    shift: PositiveFloat | None = None
    """Diffusion: how far its steps are shifted towards noise; none is a transformer of one step."""

    steps: PositiveInt = 100
    """Diffusion: steps from noise to the mask."""

    classes: PositiveInt = 2
    """Classes that its masks tell, background among them."""

    tuned_on: PositiveInt = 400
    """Most photos of the training split that the threshold is chosen on."""

    photos_at_once: Execution[PositiveInt] = 16
    """Photos of one forward pass."""

    hardware: Execution[Device] = Device()
    """Machine."""
