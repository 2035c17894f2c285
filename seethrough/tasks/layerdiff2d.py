"""LayerDiff 2D: one tag's layer from the page."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset
from seethrough.errors import InputError
from seethrough.models.checkpoints import open_base, unet_folder
from seethrough.models.unet import load_unet
from seethrough.recipes.layerdiff import LayerDiff2DData, LayerDiff2DTrain
from seethrough.tasks.datasets import tag_dataset
from seethrough.tasks.layerdiff import LayerDiffTask
from seethrough.tasks.layerdiff_pictures import tag_rows
from seethrough.tasks.layerdiff_prediction import Network
from seethrough.tasks.task import Batch, Loss

UNET_DELTA = "ld_diffusers_sdxl_attn.safetensors"


class LayerDiff2D(LayerDiffTask[LayerDiff2DTrain]):
    """SDXL's UNet on the noisy latents of a layer, beside the latents of its conditions."""

    def make_dataset(self, data: LayerDiff2DData) -> LayerDiff2DDataset:
        return tag_dataset(data, self.context)

    def build(self) -> nn.Module:
        model = self.stage.model
        # The noisy layer, the page and, with the mask condition, what is seen of the layer.
        pictures = 3 if self.stage.data.mask_condition else 2
        channels = pictures * int(self.vae.config["latent_channels"])
        if model.unet is not None:
            folder = unet_folder(self.context.path(model.unet))
            return load_unet(
                UNet2DConditionModel, folder, in_channels=channels, dtype=torch.float32
            )
        delta = None
        if model.unet_delta is not None:
            delta = self.context.path(model.unet_delta) / UNET_DELTA
            if not delta.exists():
                raise InputError(f"{delta}: no such file; it is what model.unet_delta adds")
        base = open_base(self.context.path(model.base))
        return load_unet(
            UNet2DConditionModel,
            base.require("unet"),
            in_channels=channels,
            offsets=delta,
            dtype=torch.float32,
        )

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])

    def loss_at(self, model: nn.Module, batch: Batch, timesteps: Tensor) -> Loss:
        draws: list[Draw] = batch["draw"]
        stacked = torch.stack([self.latents(item) for item in batch["items"]])
        latents, conditions = stacked[:, 0], stacked[:, 1:].flatten(1, 2)
        noise = self.noise(draws, latents.shape[1:])
        noisy = self.diffusion.add_noise(latents, noise, timesteps)
        captions = self.dropped([[item["caption"]] for item in batch["items"]], draws)
        hidden, added = self.text_conditions(captions)
        prediction = model(
            torch.cat([noisy, conditions], dim=1),
            timesteps,
            hidden,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        errors = self.diffusion.squared_error(prediction, latents, noise, timesteps)
        return self.summed(errors, torch.ones_like(errors), timesteps)

    def networks(self, model: nn.Module) -> list[Network]:
        """The one network."""

        def network(
            latents: Tensor, timesteps: Tensor, hidden: Tensor, added: dict[str, Tensor]
        ) -> Tensor:
            answer = model(
                latents[:, 0], timesteps, hidden, added_cond_kwargs=added, return_dict=False
            )
            return answer[0][:, None]

        return [network]

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of true layer, prediction and conditions."""
        (network,) = self.networks(model)
        return {"samples": tag_rows(self, network)}
