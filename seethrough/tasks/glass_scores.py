"""The stage that measures a rehearsal's model of transparency beside the tuned threshold."""

import attrs
import numpy as np
import torch

from seethrough.data.trans10k import find_pairs, read_pair
from seethrough.engine.files import write_json
from seethrough.inference.transparency import MaskOptions, load_transparency, predict_masks
from seethrough.metrics.glass_baseline import tune
from seethrough.metrics.segmentation import MEASURES, image_scores, scores_by_difficulty
from seethrough.models.checkpoints import open_base
from seethrough.models.empty_prompt_sd3 import read_prompt
from seethrough.models.sd3 import transformer_folder
from seethrough.recipes.glass_scores import GlassScores
from seethrough.tasks.task import StageContext, StageResult

MODEL, BASELINE = "model", "tuned threshold"


def measure(stage: GlassScores, context: StageContext) -> StageResult:
    """Measure both on every photo of the test split, and print the means side by side."""
    root = context.path(stage.scenes)
    known = find_pairs(root, "train")[: stage.tuned_on]
    baseline = tune(read_pair(pair) for pair in known)
    models = load_transparency(
        transformer_folder(context.path(stage.transformer)),
        open_base(context.path(stage.base)).require("vae"),
        read_prompt(context.path(stage.prompt)),
        context.device,
        torch.float32,
        stage.timestep,
        stage.shift,
    )
    options = MaskOptions(resolution=stage.resolution, classes=stage.classes, steps=stage.steps)
    pairs = find_pairs(root, "test")
    scores = {MODEL: [], BASELINE: []}
    for first in range(0, len(pairs), stage.photos_at_once):
        some = pairs[first : first + stage.photos_at_once]
        photos, masks = zip(*map(read_pair, some), strict=True)
        found = {
            MODEL: predict_masks(models, photos, options),
            BASELINE: [baseline(photo).astype(np.float32) for photo in photos],
        }
        for name, softs in found.items():
            for pair, soft, mask in zip(some, softs, masks, strict=True):
                measured = image_scores(torch.from_numpy(soft), torch.from_numpy(mask))
                scores[name].append((pair.difficulty, measured))
    means = {name: scores_by_difficulty(measured) for name, measured in scores.items()}
    file = context.directory / "scores.json"
    write_json(file, {**means, "threshold": attrs.asdict(baseline)})
    context.report(_table(means))
    return StageResult(
        {"scores": file},
        {
            "iou": means[MODEL]["mix"]["iou"],
            "threshold_iou": means[BASELINE]["mix"]["iou"],
            "photos": len(pairs),
        },
    )


def _table(means: dict[str, dict[str, dict[str, float]]]) -> str:
    """The means as text, a row for each system and difficulty."""
    lines = [f"{'':24}{'photos':>8}" + "".join(f"{name:>9}" for name in MEASURES.values())]
    for system, parts in means.items():
        for difficulty, values in parts.items():
            cells = "".join(f"{values[name]:>9.3f}" for name in MEASURES)
            lines.append(f"{system + ', ' + difficulty:24}{values['images']:>8.0f}{cells}")
    return "\n".join(lines)
