"""The stages around a rehearsal of part segmentation: the SAM to start from, and the measures."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from seethrough.data.part_masks import PartMasks, read_part_masks
from seethrough.data.pictures import read_picture
from seethrough.engine.files import write_json
from seethrough.errors import InputError
from seethrough.inference.partseg import load_partseg, predict_parts
from seethrough.metrics.part_baseline import mean_masks
from seethrough.metrics.partseg import PartScores as Scores
from seethrough.models.semantic_sam import SamArchitecture
from seethrough.models.semantic_sam_weights import save_new_sam
from seethrough.recipes.partseg import PartScores, SmallSam
from seethrough.tasks.task import StageContext, StageResult

MODEL, BASELINE = "model", "mean mask"


def small_sam_stage(stage: SmallSam, context: StageContext) -> StageResult:
    """Write the weights of a new SAM-HQ."""
    path = context.directory / "sam.safetensors"
    architecture = SamArchitecture(
        width=stage.width,
        depth=stage.depth,
        heads=stage.heads,
        global_blocks=(stage.depth - 1,),
        image_size=stage.image_size,
        patch_size=stage.patch_size,
        window_size=stage.window_size,
        decoder_width=stage.decoder_width,
        decoder_mlp_width=stage.decoder_mlp_width,
    )
    save_new_sam(path, architecture, stage.seed)
    context.report(f"{context.name}: stands in for SAM-HQ: {path}")
    return StageResult({"sam": path})


def part_scores_stage(stage: PartScores, context: StageContext) -> StageResult:
    """Measure the model and the mean masks on every page, and print both side by side."""
    model = load_partseg(context.path(stage.partseg), context.device, torch.float32)
    known = [
        read_part_masks(path, model.tags, _size(read_picture(path))).masks
        for path in context.pages(stage.known)
    ]
    baseline = mean_masks(known)
    # One process measures: under an outer launcher the others wouldn't come to a gathering.
    systems = {name: Scores(model.tags, sync_on_compute=False) for name in (MODEL, BASELINE)}
    pages = context.pages(stage.pages)
    for path in pages:
        page = read_picture(path)[..., :3]
        parts = read_part_masks(path, model.tags, _size(page))
        if _size(page) != baseline.shape[1:]:
            raise InputError(
                f"{path}: {page.shape[1]} x {page.shape[0]} pixels, but the pages of known have"
                f" {baseline.shape[2]} x {baseline.shape[1]}: mean masks need pages of one size"
            )
        _add(systems[MODEL], predict_parts(model, page), parts)
        _add(systems[BASELINE], baseline, parts)
    scores = {name: metric.compute() for name, metric in systems.items()}
    file = context.directory / "scores.json"
    write_json(file, scores)
    miou, mean_mask_miou = scores[MODEL]["miou"], scores[BASELINE]["miou"]
    reached = miou - mean_mask_miou >= stage.margin
    context.report(
        f"{_table(scores, model.tags, len(pages))}\n"
        f"{context.name}: {miou - mean_mask_miou:+.3f} from the mean masks, "
        f"{stage.margin} to reach: {'reached' if reached else 'NOT reached'}"
    )
    return StageResult(
        {"scores": file},
        {
            "miou": miou,
            "mean_mask_miou": mean_mask_miou,
            "reached": float(reached),
            "pages": len(pages),
        },
    )


def _size(page: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return page.shape[0], page.shape[1]


def _add(metric: Scores, found: npt.NDArray[np.bool_], true: PartMasks) -> None:
    metric.update(*map(torch.from_numpy, (found, true.masks, true.valid)))


def _table(scores: dict[str, dict[str, float]], tags: Sequence[str], pages: int) -> str:
    """The measures as text, a column for each system."""
    names = ["miou", "picture_miou", "accuracy", "false_parts", *(f"iou/{tag}" for tag in tags)]
    lines = [f"{f'{pages} pages':20}" + "".join(f"{name:>12}" for name in scores)]
    for name in names:
        values = [found.get(name) for found in scores.values()]
        if any(value is not None for value in values):
            cells = ("-" if value is None else f"{value:.3f}" for value in values)
            lines.append(f"{name:20}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)
