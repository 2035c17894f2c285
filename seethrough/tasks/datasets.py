"""Datasets of layered characters as the sections of a recipe describe them."""

from typing import Any, TypeVar

from seethrough.data.depth import Beyond, DepthDataset2D, DepthDataset3D
from seethrough.data.depth_control import ControlledDepthDataset
from seethrough.data.draws import Draw
from seethrough.data.layerdiff import LayerDiff2DDataset, LayerDiff3DDataset
from seethrough.data.replacement import load
from seethrough.data.sample_dataset import SampleDataset
from seethrough.recipe import evolve
from seethrough.recipes.depth_anything import ControlledDepthData
from seethrough.recipes.layer_data import (
    CroppedData,
    GroupData,
    LayerData,
    PageDepthData,
    PictureData,
)
from seethrough.recipes.layerdiff import LayerDiff2DData, LayerDiff3DData
from seethrough.recipes.marigold import Marigold3DData
from seethrough.recipes.training import Data
from seethrough.tasks.items import SampleItems
from seethrough.tasks.task import Batch, StageContext

DataT = TypeVar("DataT", bound=PictureData)

AUGMENTATIONS = ("random_flip", "random_pad", "random_mask", "random_crop", "random_hsv")
"""Probabilities of the sections that change a picture or a mask."""


def held_out(data: DataT) -> DataT | None:
    """The same data over its held-out samples, as they are: with no random change."""
    if data.validation is None:
        return None
    off = {name: 0.0 for name in AUGMENTATIONS if hasattr(data, name)}
    return evolve(data, sources=((data.validation, 1),), **off)


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
        **_group_options(data, context), page_alpha=data.page_alpha, pad_frames=data.pad_frames
    )


def page_depth_dataset(
    data: PageDepthData, context: StageContext, beyond: Beyond = "far"
) -> DepthDataset2D:
    """A page at a time, and its depth."""
    return DepthDataset2D(**_page_depth_options(data, context), beyond=beyond)


def controlled_depth_dataset(
    data: ControlledDepthData, context: StageContext
) -> ControlledDepthDataset:
    """A page at a time, or a layer with its control, and its depth."""
    return ControlledDepthDataset(
        **_page_depth_options(data, context),
        control_probability=data.control_probability,
        tags=data.tags,
    )


def frame_depth_dataset(data: Marigold3DData, context: StageContext) -> DepthDataset3D:
    """All layers of a group at a time, the page, and their depths."""
    return DepthDataset3D(
        **_group_options(data, context),
        **_change_options(data),
        page_frame=data.page_frame,
        absent=data.frames.absent,
        beyond=data.frames.beyond,
    )


def readable(
    dataset: SampleDataset | SampleItems[Any], draw: Draw, data: Data, context: StageContext
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
        "page_alpha": data.page_alpha,
        "target_size_groups": data.size_groups,
        "own_box": data.own_box,
        "tag_list": data.tags,
        "load_objects": data.load_objects,
    }


def _group_options(data: GroupData, context: StageContext) -> dict[str, Any]:
    return {
        **_crop_options(data, context),
        "groups": data.groups,
        "crop_tags": data.crop_tags,
        "crop_skip_tags": data.crop_skip_tags,
        "global_batch": data.global_batch,
        "ngroup_iters": data.ngroup_iters,
    }


def _crop_options(data: CroppedData, context: StageContext) -> dict[str, Any]:
    return {
        **_picture_options(data, context),
        "random_pad_prob": data.random_pad,
        "crop_to": data.crop_to,
    }


def _page_depth_options(data: PageDepthData, context: StageContext) -> dict[str, Any]:
    return {
        **_picture_options(data, context),
        **_change_options(data),
        "flip_horizontal": data.flip_horizontal,
        "flip_vertical": data.flip_vertical,
        "crop_to": data.crop_to,
    }


def _picture_options(data: PictureData, context: StageContext) -> dict[str, Any]:
    return {
        "sources": [(context.path(source), rate) for source, rate in data.sources],
        "data_roots": context.data_roots,
        "target_size": data.target_size,
        "random_flip": data.random_flip,
        "layer_alpha": data.layer_alpha,
    }


def _change_options(data: PageDepthData | Marigold3DData) -> dict[str, Any]:
    return {
        "random_crop": data.random_crop,
        "random_crop_ratio": data.random_crop_ratio,
        "random_hsv": data.random_hsv,
    }
