"""LayerDiff 2D: one tag's layer from the page."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import nn

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset
from seethrough.errors import InputError
from seethrough.inference.grid import picture_grid
from seethrough.inference.sampling import Solver, sample_latents
from seethrough.models.checkpoints import open_base
from seethrough.models.unet_2d import load_unet_2d
from seethrough.recipes.layerdiff import LayerDiff2DData, LayerDiff2DTrain
from seethrough.tasks.datasets import readable, tag_dataset
from seethrough.tasks.layerdiff import PICTURE_STEPS, LayerDiffTask
from seethrough.tasks.task import Batch, Loss

UNET_DELTA = "ld_diffusers_sdxl_attn.safetensors"
PICTURE_ROWS = 8


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
            return load_unet_2d(
                self.context.path(model.unet), in_channels=channels, dtype=torch.float32
            )
        delta = None
        if model.unet_delta is not None:
            delta = self.context.path(model.unet_delta) / UNET_DELTA
            if not delta.exists():
                raise InputError(f"{delta}: no such file; it is what model.unet_delta adds")
        base = open_base(self.context.path(model.base))
        return load_unet_2d(
            base.require("unet"), in_channels=channels, offsets=delta, dtype=torch.float32
        )

    def weight(self, batch: Batch) -> float:
        return len(batch["draw"])

    def loss_at(self, model: nn.Module, batch: Batch, timesteps: torch.Tensor) -> Loss:
        draws: list[Draw] = batch["draw"]
        stacked = torch.stack([self.latents(item) for item in batch["items"]])
        latents, conditions = stacked[:, 0], stacked[:, 1:].flatten(1, 2)
        noise = self.diffusion.noise(draws, latents.shape[1:], latents.device)
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

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Rows of conditions, true layer and prediction for the first samples."""
        assert isinstance(model, UNet2DConditionModel)
        rows = min(PICTURE_ROWS, len(self.layers))
        draws = [Draw(seed=0, stage="pictures", step=0, index=i, sample=i) for i in range(rows)]
        items = [readable(self.layers, draw, self.stage.data) for draw in draws]
        device = self.context.device
        seen = ["page", "visible"] if self.stage.data.mask_condition else ["page"]
        shown: list[torch.Tensor] = []
        for draw, item in zip(draws, items, strict=True):
            parts = [self.encoder.posterior(item[name].to(device))[:1] for name in seen]
            condition = torch.cat(parts, dim=1) * self.encoder.scale
            _, channels, height, width = parts[0].shape
            hidden, added = self.text_conditions([[item["caption"]]])

            def predict(
                latents: torch.Tensor,
                timesteps: torch.Tensor,
                condition: torch.Tensor = condition,
                hidden: torch.Tensor = hidden,
                added: dict[str, torch.Tensor] = added,
            ) -> torch.Tensor:
                sample = torch.cat([latents[:, 0], condition], dim=1)
                answer = model(sample, timesteps, hidden, added_cond_kwargs=added)
                return answer.sample[:, None]

            latents = sample_latents(
                predict,
                solver=Solver(prediction_type=self.stage.objective.prediction_type),
                steps=PICTURE_STEPS,
                shape=(1, channels, height, width),
                generators=[draw.numpy("pictures")],
                device=device,
            )
            rgba = self.transparent_vae.decode(self.vae, latents[:, 0] / self.encoder.scale)
            given = [item[name][[1, 2, 3, 0]] / 255 for name in (*seen, "layer")]
            shown += [*given, rgba[0].cpu()]
        return {"samples": picture_grid(shown, columns=len(seen) + 2)}
