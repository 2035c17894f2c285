"""The stage that draws the embedded characters."""

from seethrough.data.avatars_samples import write_characters
from seethrough.recipes.characters import Characters
from seethrough.tasks.task import StageContext, StageResult


def draw(stage: Characters, context: StageContext) -> StageResult:
    """Write training and test characters; each artifact is a folder of samples."""
    folder = context.directory
    write_characters(folder / "train", "train", stage.train_count, stage.size, stage.seed)
    write_characters(folder / "test", "test", stage.test_count, stage.size, stage.seed)
    context.report(
        f"{context.name}: {stage.train_count} characters to train on, {stage.test_count} to test on"
    )
    return StageResult({"train": folder / "train", "test": folder / "test"})
