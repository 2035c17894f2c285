"""The conversion stage: 2D UNet to 3D UNet, with its audit."""

import torch

from seethrough.models.inflate import inflate
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.task import StageContext, StageResult


def inflate_stage(stage: Inflate, context: StageContext) -> StageResult:
    """Convert, write the table of all keys, and print what became of them."""
    target = context.directory / "unet"
    report = inflate(
        context.path(stage.unet),
        target,
        group_embedding=stage.group_embedding,
        group_embedding_num=stage.group_sizes,
        tag_version=stage.tag_version,
        dtype=getattr(torch, stage.dtype),
        seed=stage.seed,
    )
    counts = report.counts()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    kind = "3D source, weights as they are" if report.warm_start else "2D source"
    context.report(f"{context.name}: {kind}; {summary} (each key in {target}/inflation.tsv)")
    context.report(
        f"{context.name}: 3D against its source on random inputs: "
        f"largest difference {report.max_difference}"
    )
    return StageResult({"unet": target}, {"max_difference": report.max_difference})
