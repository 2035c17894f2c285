"""The stage that draws the embedded characters."""

from seethrough.data.avatars_samples import write_characters
from seethrough.recipes.characters import Characters
from seethrough.tasks.task import StageContext, StageResult


def draw(stage: Characters, context: StageContext) -> StageResult:
    """Write training and test characters; each artifact is a sample list beside its samples."""
    folder = context.directory
    train = write_characters(folder / "train", "train", stage.train_count, stage.size, stage.seed)
    test = write_characters(folder / "test", "test", stage.test_count, stage.size, stage.seed)
    context.report(
        f"{context.name}: {stage.train_count} characters to train on, {stage.test_count} to test on"
    )
    return StageResult({"train": train, "test": test})
