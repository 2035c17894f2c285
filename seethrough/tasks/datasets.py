"""Datasets of layered characters as the sections of a recipe describe them."""

from typing import Any, TypeVar

from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDataset, LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.replacement import load
from seethrough.recipe import evolve
from seethrough.recipes.layer_data import CroppedData, LayerData
from seethrough.recipes.layerdiff import LayerDiff2DData, LayerDiff3DData
from seethrough.recipes.training import Data
from seethrough.tasks.latents import PictureItems
from seethrough.tasks.task import Batch, StageContext

DataT = TypeVar("DataT", bound=CroppedData)


def held_out(data: DataT) -> DataT | None:
    """The same data over its held-out samples, as they are: with no random change."""
    if data.validation is None:
        return None
    changes = {"random_flip": 0.0, "random_pad": 0.0}
    if isinstance(data, LayerDiff2DData):
        changes["random_mask"] = 0.0
    return evolve(data, sources=((data.validation, 1),), **changes)


def layer_dataset(data: LayerData, context: StageContext) -> LayerDiff2DDataset:
    """One layer at a time, as a picture; its caption file is not read."""
    return LayerDiff2DDataset(**_layer_options(data, context), caption_files=False)


def tag_dataset(data: LayerDiff2DData, context: StageContext) -> LayerDiff2DDataset:
    """One layer at a time, with its caption and what it is predicted from."""
    return LayerDiff2DDataset(
        **_layer_options(data, context),
        caption_files=data.caption_files,
        mask_condition=data.mask_condition,
        random_mask=data.random_mask,
    )


def group_dataset(data: LayerDiff3DData, context: StageContext) -> LayerDiff3DDataset:
    """All layers of a group at a time."""
    return LayerDiff3DDataset(
        **_crop_options(data, context),
        groups=data.groups,
        crop_tags=data.crop_tags,
        crop_skip_tags=data.crop_skip_tags,
        global_batch=data.global_batch,
        ngroup_iters=data.ngroup_iters,
        pad_frames=data.pad_frames,
    )


def readable(
    dataset: LayerDataset | PictureItems, draw: Draw, data: Data, context: StageContext
) -> Batch:
    """The item of a draw, or of what stands in for it where the recipe leaves bad samples out.

    For what is not training: says which samples were left out.
    """
    loaded = load(dataset, draw, skip=data.bad_samples == "skip")
    for bad in loaded.left_out:
        context.report(f"{context.name}: left out {dataset.page_path(bad.row)}: {bad.error}")
    return loaded.item


def _layer_options(data: LayerData, context: StageContext) -> dict[str, Any]:
    return {
        **_crop_options(data, context),
        "target_size_groups": data.size_groups,
        "own_box": data.own_box,
        "tag_list": data.tags,
        "load_objects": data.load_objects,
    }


def _crop_options(data: CroppedData, context: StageContext) -> dict[str, Any]:
    return {
        "sources": [(context.path(source), rate) for source, rate in data.sources],
        "data_roots": context.data_roots,
        "target_size": data.target_size,
        "random_flip": data.random_flip,
        "random_pad_prob": data.random_pad,
        "crop_to": data.crop_to,
        "layer_alpha": data.layer_alpha,
        "page_alpha": data.page_alpha,
    }
