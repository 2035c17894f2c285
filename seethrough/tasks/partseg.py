"""Body parts: a mask for each, by a SAM whose mask decoder has a head a part."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from seethrough.data.partseg import PartSegDataset
from seethrough.errors import InputError
from seethrough.inference.composite import Image8
from seethrough.inference.part_picture import joined, part_picture
from seethrough.inference.partseg import THRESHOLD
from seethrough.metrics.partseg import PartScores
from seethrough.models.semantic_sam import SemanticSam, normalised
from seethrough.models.semantic_sam_weights import (
    load_semantic_sam,
    read_tags,
    save_semantic_sam,
    semantic_sam_from_sam,
)
from seethrough.recipe import Source, evolve
from seethrough.recipes.partseg import PartSegData, PartSegTrain
from seethrough.tasks.items import first_items
from seethrough.tasks.point_loss import point_losses
from seethrough.tasks.task import Batch, Loss, ParameterGroup, StageContext, Task

SHOWN = 4
"""Pages in a training picture."""


class PartSeg(Task[PartSegTrain]):
    """Cross-entropy and Dice loss of masks at sampled points."""

    def __init__(self, stage: PartSegTrain, context: StageContext) -> None:
        super().__init__(stage, context)
        self.pages = partseg_dataset(stage.data, context)

    def build(self) -> SemanticSam:
        model, tags = self.stage.model, self.stage.data.tags
        frozen = {
            "fix_img_en": model.freeze_image_encoder,
            "fix_prompt_en": model.freeze_prompt_encoder,
            "fix_mask_de": model.freeze_mask_decoder,
        }
        if model.sam is not None:
            path = self.context.path(model.sam)
            network = semantic_sam_from_sam(path, len(tags), model.mask_decoder, **frozen)
        else:
            assert model.partseg is not None
            path = self.context.path(model.partseg)
            network = load_semantic_sam(path, torch.float32, **frozen)
            self._check_trained(path, network)
        if network.img_size != self.stage.data.target_size:
            raise InputError(
                f"{self.context.name}.data.target_size: {self.stage.data.target_size}, but the"
                f" network of {path} sees {network.img_size} px: set it to that"
            )
        return network

    def _check_trained(self, path: Path, network: SemanticSam) -> None:
        """Whether a trained model finds what the recipe is to teach."""
        tags, decoder = self.stage.data.tags, self.stage.model.mask_decoder
        if network.class_num != len(tags):
            raise InputError(
                f"{self.context.name}.data.tags: {len(tags)} tags, but the model in {path} has"
                f" {network.class_num} classes: name those, or start from model.sam"
            )
        known = read_tags(path, network)
        if known != tags:
            place = next(i for i, (a, b) in enumerate(zip(known, tags, strict=True)) if a != b)
            raise InputError(
                f"{self.context.name}.data.tags: {tags[place]!r} is number {place}, but that of the"
                f" model in {path} is {known[place]!r}: give the tags in its order"
            )
        if network.mask_decoder != decoder:
            raise InputError(
                f"{self.context.name}.model.mask_decoder: {decoder}, but the model in {path} has"
                f" {network.mask_decoder}: set it to that"
            )

    def parameter_groups(self, model: nn.Module, lr: float) -> list[ParameterGroup]:
        assert isinstance(model, SemanticSam)
        return [ParameterGroup("all", model.taught(), lr)]

    def dataset(self) -> PartSegDataset:
        return self.pages

    def sample_name(self, row: int) -> str:
        return str(self.pages.page_path(row))

    def weight(self, batch: Batch) -> float:
        """The masks that are to be relied on."""
        return float(batch["valid"].sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        weights = self.stage.loss
        logits, _ = model(normalised(batch["picture"]))
        bce, dice = point_losses(logits, batch["masks"], batch["draw"], weights.sampling)
        valid = batch["valid"]
        terms = {"bce": (bce * valid).sum(), "dice": (dice * valid).sum()}
        total = weights.bce * terms["bce"] + weights.dice * terms["dice"]
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def find(self, model: nn.Module, pictures: Tensor) -> Tensor:
        """Masks (B, C, T, T) bool of pictures (B, 3, T, T) uint8, at their size."""
        logits, _ = model(normalised(pictures.to(self.context.device)))
        size = pictures.shape[-2:]
        return F.interpolate(logits.float(), size, mode="bilinear") > THRESHOLD

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The measures of held-out pages, as they are."""
        data = self.stage.data
        if data.validation is None:
            return {}
        # One process measures: the others wait, and wouldn't come to a gathering.
        scores = PartScores(data.tags, sync_on_compute=False)
        dataset = partseg_dataset(as_they_are(data, data.validation), self.context)
        for item in first_items(dataset, "validation", data, self.context):
            found = self.find(model, item["picture"][None])[0].cpu()
            scores.update(found, item["masks"], item["valid"])
        return scores.compute()

    def pictures(self, model: nn.Module) -> dict[str, Image.Image]:
        """Pages as they are trained on, their parts, and those found."""
        rows: list[Image8] = []
        for item in first_items(self.pages, "pictures", self.stage.data, self.context, SHOWN):
            page = item["picture"].numpy().transpose(1, 2, 0)
            found = self.find(model, item["picture"][None])[0].cpu().numpy()
            tags = self.stage.data.tags
            parts = [
                part_picture(page, masks, tags, 0.0) for masks in (item["masks"].numpy(), found)
            ]
            rows.append(joined([page, *parts], axis=1))
        return {"parts": Image.fromarray(joined(rows, axis=0))}

    def export(self, model: nn.Module, directory: Path) -> dict[str, Path]:
        assert isinstance(model, SemanticSam)
        save_semantic_sam(model, self.stage.data.tags, directory / "partseg")
        return {"partseg": directory / "partseg"}


def as_they_are(data: PartSegData, pages: Source) -> PartSegData:
    """The same data over other pages, with no random change."""
    return evolve(
        data,
        sources=((pages, 1),),
        random_flip=0.0,
        random_crop=0.0,
        random_hsv=0.0,
        random_downscale=0.0,
    )


def partseg_dataset(data: PartSegData, context: StageContext) -> PartSegDataset:
    """Pages and their parts as a section describes them."""
    return PartSegDataset(
        sources=[(context.path(source), rate) for source, rate in data.sources],
        data_roots=context.data_roots,
        tags=data.tags,
        target_size=data.target_size,
        random_flip=data.random_flip,
        flip_horizontal=data.flip_horizontal,
        flip_vertical=data.flip_vertical,
        random_crop=data.random_crop,
        random_crop_ratio=data.random_crop_ratio,
        random_hsv=data.random_hsv,
        random_downscale=data.random_downscale,
        downscale_sizes=data.downscale_sizes,
    )
