"""What 3D tasks share: samples of several groups of frames in one step."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import attrs
import torch
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.tasks.latent_diffusion import LatentDiffusionTask, TrainStageT
from seethrough.tasks.task import Batch, Loss

TEMPORAL = ".temporal_transformer_blocks."
"""What the names of the parameters across frames have in them."""


class GroupwiseUNet(nn.Module):
    """The UNet on samples of several groups in one call.

    Data parallelism wants one forward pass a step, while groups differ in frames.
    """

    def __init__(self, unet: UNetFrameConditionModel, folder: str | Path) -> None:
        """Raises InputError, naming the UNet's folder, when it has no blocks across frames.

        The class also builds plain 2D blocks: such a network would train frame by frame.
        """
        super().__init__()
        if not any(TEMPORAL in name for name, _ in unet.named_parameters()):
            raise InputError(
                f"{folder}: this UNet has no blocks across frames: convert it with an inflate stage"
            )
        self.unet = unet

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        self.unet.enable_gradient_checkpointing()

    def forward(self, calls: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Tensor]:
        """Predictions (B, F, C, h, w) for groups and arguments of the UNet, in their order."""
        grouped = bool(self.unet.config["group_embedding"])
        return [
            self.unet(**arguments, group_index=group if grouped else None, return_dict=False)[0]
            for group, arguments in calls
        ]


@attrs.frozen
class Noised:
    """Samples of one group, with as many frames, on their way through the UNet."""

    arguments: dict[str, Any]
    """Of the UNet."""
    truth: tuple[Tensor, Tensor, Tensor]
    """Latents (B, F, C, h, w), their noise, and timesteps (B,)."""
    weights: Tensor
    """(B, F) weights of the frames."""


class GroupwiseTask(LatentDiffusionTask[TrainStageT], Generic[TrainStageT]):
    """The loss over the frames of each sample's group."""

    groups: int
    """How many groups take turns."""
    ngroup_iters: int
    """Samples in a row that have the same group."""
    absent_weight: float
    """Weight of frames whose tag the character lacks."""

    @abstractmethod
    def noised(self, items: list[Batch], timesteps: Tensor) -> Noised:
        """The UNet's arguments for samples of one group with as many frames, and what its
        prediction is held to."""

    def frame_weights(self, items: Sequence[Batch]) -> Tensor:
        """Weight of each frame of samples of one group, (B, F) float32 on the host."""
        absent = self.absent_weight
        return torch.tensor(
            [[absent if name is None else 1.0 for name in item["frames"]] for item in items]
        )

    def weight(self, batch: Batch) -> float:
        return sum(float(self.frame_weights([item]).sum()) for item in batch["items"])

    def loss_at(self, model: nn.Module, batch: Batch, timesteps: Tensor) -> Loss:
        alike: dict[tuple[int, int], list[tuple[Batch, Tensor]]] = defaultdict(list)
        for item, timestep in zip(batch["items"], timesteps, strict=True):
            alike[item["group_index"], len(item["frames"])].append((item, timestep))
        calls = [
            (group, self.noised([item for item, _ in pairs], torch.stack([t for _, t in pairs])))
            for (group, _), pairs in sorted(alike.items())
        ]
        predictions = model([(group, noised.arguments) for group, noised in calls])
        errors = [
            self.diffusion.squared_error(prediction, *noised.truth) * noised.weights
            for prediction, (_, noised) in zip(predictions, calls, strict=True)
        ]
        return self.summed(
            torch.cat([frames.sum(1) for frames in errors]),
            torch.cat([noised.weights.sum(1) for _, noised in calls]),
            torch.cat([noised.truth[2] for _, noised in calls]),
        )

    def fixed_draws(self, purpose: str, place: int, row: int) -> list[Draw]:
        """Draws of one sample, one for each group: the order of draws decides over groups."""
        return [
            Draw(seed=0, stage=purpose, step=0, index=index * self.ngroup_iters, sample=row)
            for index in range(place * self.groups, (place + 1) * self.groups)
        ]

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        assert isinstance(model, GroupwiseUNet)
        return super().export(model.unet, directory)
