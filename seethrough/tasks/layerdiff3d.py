"""LayerDiff 3D: all layers of a group of tags from the page."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff3DDataset
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, unet_folder
from seethrough.recipes.layerdiff import LayerDiff3DData, LayerDiff3DTrain
from seethrough.tasks.datasets import group_dataset
from seethrough.tasks.layerdiff import LayerDiffTask
from seethrough.tasks.layerdiff_pictures import Network, group_frames
from seethrough.tasks.task import Batch, Loss, ParameterGroup
from seethrough.tasks.transfer import on_device

TEMPORAL = ".temporal_transformer_blocks."
"""What the names of the parameters across frames have in them."""


@attrs.frozen
class _Noised:
    """Samples of one group on their way through the UNet."""

    arguments: dict[str, Any]
    truth: tuple[Tensor, Tensor, Tensor]
    """Latents (B, F, C, h, w), their noise, and timesteps (B,)."""
    weights: Tensor
    """(B, F) weights of the frames."""


class GroupwiseUNet(nn.Module):
    """The UNet on samples of several groups in one call.

    Data parallelism wants one forward pass a step, while groups differ in frames.
    """

    def __init__(self, unet: UNetFrameConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        self.unet.enable_gradient_checkpointing()

    def forward(self, calls: Mapping[int, Mapping[str, Any]]) -> list[Tensor]:
        """Predictions (B, F, C, h, w) for each group's arguments of the UNet, in their order."""
        grouped = bool(self.unet.config["group_embedding"])
        return [
            self.unet(**arguments, group_index=group if grouped else None, return_dict=False)[0]
            for group, arguments in calls.items()
        ]


class LayerDiff3D(LayerDiffTask[LayerDiff3DTrain]):
    """The UNet across frames on the noisy latents of a group's layers, beside the page's."""

    def make_dataset(self, data: LayerDiff3DData) -> LayerDiff3DDataset:
        return group_dataset(data, self.context)

    def build(self) -> GroupwiseUNet:
        folder = unet_folder(self.context.path(self.stage.model.unet))
        model = load_model(UNetFrameConditionModel, folder, torch.float32)
        # The class also builds plain 2D blocks: such a network would train frame by frame.
        if not any(TEMPORAL in name for name, _ in model.named_parameters()):
            raise InputError(
                f"{folder}: this UNet has no blocks across frames: convert it with an inflate stage"
            )
        channels = 2 * int(self.vae.config["latent_channels"])
        if model.config["in_channels"] != channels:
            raise InputError(
                f"{folder}: this UNet takes {model.config['in_channels']} input channels, but a "
                f"noisy layer and the page make {channels}: a 2D UNet with the mask condition has "
                "no 3D form"
            )
        data = self.stage.data
        sizes = [max(len(group), data.pad_frames) for group in data.groups]
        if model.config["group_embedding"] and list(model.config["group_embedding_num"]) != sizes:
            raise InputError(
                f"{folder}: this UNet has groups of {list(model.config['group_embedding_num'])} "
                f"frames, but data.groups and data.pad_frames make {sizes}"
            )
        return GroupwiseUNet(model)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        """The blocks across frames, and the rest, each with its learning rate."""
        section = self.stage.model
        rates = {"temporal": section.temporal_lr or lr, "spatial": lr}
        chosen: dict[str, list[nn.Parameter]] = {part: [] for part in rates}
        for name, parameter in model.named_parameters():
            chosen["temporal" if TEMPORAL in name else "spatial"].append(parameter)
        return [
            ParameterGroup(part, chosen[part], rate)
            for part, rate in rates.items()
            if section.learn in ("all", part)
        ]

    def weight(self, batch: Batch) -> float:
        return sum(float(self._frame_weights(item).sum()) for item in batch["items"])

    def _frame_weights(self, item: Batch) -> Tensor:
        """Weight of each frame, (F,) float32 on the host."""
        absent = self.stage.objective.absent_weight
        return torch.tensor([absent if name is None else 1.0 for name in item["frames"]])

    def loss_at(self, model: nn.Module, batch: Batch, timesteps: Tensor) -> Loss:
        by_group: dict[int, list[tuple[Batch, Tensor]]] = defaultdict(list)
        for item, timestep in zip(batch["items"], timesteps, strict=True):
            by_group[item["group_index"]].append((item, timestep))
        groups = {
            group: self._noised([item for item, _ in pairs], torch.stack([t for _, t in pairs]))
            for group, pairs in sorted(by_group.items())
        }
        predictions = model({group: noised.arguments for group, noised in groups.items()})
        errors = [
            self.diffusion.squared_error(prediction, *noised.truth) * noised.weights
            for prediction, noised in zip(predictions, groups.values(), strict=True)
        ]
        return self.summed(
            torch.cat([frames.sum(1) for frames in errors]),
            torch.cat([noised.weights.sum(1) for noised in groups.values()]),
            torch.cat([noised.truth[2] for noised in groups.values()]),
        )

    def _noised(self, items: list[Batch], timesteps: Tensor) -> "_Noised":
        """The UNet's arguments for samples of one group, and what its prediction is held to."""
        draws: list[Draw] = [item["draw"] for item in items]
        stacked = torch.stack([self.latents(item) for item in items])
        latents, page = stacked[:, :-1], stacked[:, -1:]
        noise = self.diffusion.noise(draws, latents.shape[1:], latents.device)
        noisy = self.diffusion.add_noise(latents, noise, timesteps)
        captions = self.dropped([item["captions"] for item in items], draws)
        hidden, conditions = self.text_conditions(captions)
        weights = torch.stack([self._frame_weights(item) for item in items])
        return _Noised(
            arguments={
                "sample": torch.cat([noisy, page.expand_as(noisy)], dim=2),
                "timestep": timesteps,
                "encoder_hidden_states": hidden,
                "added_cond_kwargs": conditions,
            },
            truth=(latents, noise, timesteps),
            weights=on_device(weights, latents.device),
        )

    def fixed_draws(self, purpose: str, place: int, row: int) -> list[Draw]:
        """Draws of one sample, one for each group: the order of draws decides over groups."""
        data = self.stage.data
        groups = len(data.groups)
        return [
            Draw(seed=0, stage=purpose, step=0, index=index * data.ngroup_iters, sample=row)
            for index in range(place * groups, (place + 1) * groups)
        ]

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        assert isinstance(model, GroupwiseUNet)
        return super().export(model.unet, directory)

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """For each group the page, and of each frame the true layer and the prediction."""

        def network(group: int) -> Network:
            def predict(
                latents: Tensor, timesteps: Tensor, hidden: Tensor, added: dict[str, Tensor]
            ) -> Tensor:
                arguments = {
                    "sample": latents,
                    "timestep": timesteps,
                    "encoder_hidden_states": hidden,
                    "added_cond_kwargs": added,
                }
                return model({group: arguments})[0]

            return predict

        groups = range(len(self.stage.data.groups))
        return {f"group-{group}": group_frames(self, group, network(group)) for group in groups}
