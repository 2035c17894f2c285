"""The stage that draws the embedded scenes with transparent objects."""

from seethrough.data.glass_scenes import write_scenes
from seethrough.data.trans10k import Split
from seethrough.recipes.glass_scenes import GlassScenes
from seethrough.tasks.task import StageContext, StageResult


def draw(stage: GlassScenes, context: StageContext) -> StageResult:
    """Write all three splits; the artifact is a folder in the layout of Trans10K, version 1."""
    folder = context.directory / "scenes"
    counts: dict[Split, int] = {
        "train": stage.train_count,
        "validation": stage.validation_count,
        "test": stage.test_count,
    }
    for split, count in counts.items():
        write_scenes(folder, split, count, stage.size, stage.seed)
    context.report(
        f"{context.name}: {stage.train_count} scenes to train on, {stage.validation_count} to "
        f"validate with, {stage.test_count} to test on"
    )
    return StageResult({"scenes": folder})
