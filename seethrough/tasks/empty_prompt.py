"""The stage that encodes the empty prompt of an SD3 base and stores it."""

import torch

from seethrough.models.empty_prompt_sd3 import encode_empty_prompt_sd3, read_prompt, save_prompt
from seethrough.recipes.transparency import EmptyPrompt
from seethrough.tasks.task import StageContext, StageResult


def empty_prompt_stage(stage: EmptyPrompt, context: StageContext) -> StageResult:
    """Write the embeddings, and read them back as training will."""
    base = context.path(stage.base)
    prompt = encode_empty_prompt_sd3(base, context.device, getattr(torch, stage.dtype))
    file = context.directory / "prompt.safetensors"
    save_prompt(file, prompt)
    embeds, pooled = read_prompt(file)
    context.report(
        f"{context.name}: embeddings {tuple(embeds.shape)} and pooled {tuple(pooled.shape)}"
    )
    return StageResult({"prompt": file}, {"embeds_norm": float(embeds.float().norm())})
