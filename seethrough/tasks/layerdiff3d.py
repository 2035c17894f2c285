"""LayerDiff 3D: all layers of a group of tags from the page."""

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
from seethrough.tasks.groupwise import TEMPORAL, GroupwiseTask, GroupwiseUNet, Noised
from seethrough.tasks.layerdiff import LayerDiffTask
from seethrough.tasks.layerdiff_pictures import group_frames
from seethrough.tasks.layerdiff_prediction import Network
from seethrough.tasks.task import Batch, ParameterGroup, StageContext
from seethrough.tasks.transfer import on_device


class LayerDiff3D(GroupwiseTask[LayerDiff3DTrain], LayerDiffTask[LayerDiff3DTrain]):
    """The UNet across frames on the noisy latents of a group's layers, beside the page's."""

    def __init__(self, stage: LayerDiff3DTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.groups = len(stage.data.groups)
        self.ngroup_iters = stage.data.ngroup_iters
        self.absent_weight = stage.objective.absent_weight

    def make_dataset(self, data: LayerDiff3DData) -> LayerDiff3DDataset:
        return group_dataset(data, self.context)

    def build(self) -> GroupwiseUNet:
        folder = unet_folder(self.context.path(self.stage.model.unet))
        model = load_model(UNetFrameConditionModel, folder, torch.float32)
        groupwise = GroupwiseUNet(model, folder)
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
        return groupwise

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

    def noised(self, items: list[Batch], timesteps: Tensor) -> Noised:
        """The UNet's arguments for samples of one group, and what its prediction is held to."""
        draws: list[Draw] = [item["draw"] for item in items]
        stacked = torch.stack([self.latents(item) for item in items])
        latents, page = stacked[:, :-1], stacked[:, -1:]
        noise = self.noise(draws, latents.shape[1:])
        noisy = self.diffusion.add_noise(latents, noise, timesteps)
        captions = self.dropped([item["captions"] for item in items], draws)
        hidden, conditions = self.text_conditions(captions)
        return Noised(
            arguments={
                "sample": torch.cat([noisy, page.expand_as(noisy)], dim=2),
                "timestep": timesteps,
                "encoder_hidden_states": hidden,
                "added_cond_kwargs": conditions,
            },
            truth=(latents, noise, timesteps),
            weights=on_device(self.frame_weights(items), latents.device),
        )

    def networks(self, model: nn.Module) -> list[Network]:
        """A network for each group."""

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
                return model([(group, arguments)])[0]

            return predict

        return [network(group) for group in range(self.groups)]

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """For each group the page, and of each frame the true layer and the prediction."""
        return {
            f"group-{group}": group_frames(self, group, network)
            for group, network in enumerate(self.networks(model))
        }
