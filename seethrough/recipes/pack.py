"""Models small enough to be shipped with the code."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from seethrough.recipe import Execution, Output, PositiveFloat, Source, Stage, change, recipe
from seethrough.recipes.training import Device


@recipe
class Pack(Stage):
    """Writes models in the published layout, small enough to ship, and measures them again."""

    implementation: ClassVar[str] = "seethrough.decompose.pack:pack_stage"
    outputs: ClassVar[tuple[str, ...]] = ("model",)

    layers: Source = Output("train_3d", "unet")
    """The model of layers: of the stage that trained it, which names all else that it needs."""

    depth: Source | None = Output("depth_3d", "unet")
    """The model of depth, likewise; none packs the layers' alone."""

    layers_measured: Source = Output("decompose", "report")
    """Of the stage that measured the layers: its options go along, and it is done again with the
    packed model."""

    depth_measured: Source | None = Output("depth_order", "scores")
    """Of the stage that measured the order by depth, likewise; none without depth."""

    precision: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Type of all weights on disk."""

    limit_mb: PositiveFloat = 24.0
    """Most megabytes (10^6 bytes) of all files: what is more is refused."""

    hardware: Execution[Device] = change(Device, device="cpu")
    """What to measure on."""

    def check(self) -> Iterator[tuple[str, str]]:
        for name in ("layers", "depth", "layers_measured", "depth_measured"):
            if not isinstance(getattr(self, name), Output | None):
                yield name, "has to be a stage's output: its record says what else is needed"
        if (self.depth is None) != (self.depth_measured is None):
            yield "depth_measured", "belongs to depth: give both or neither"
