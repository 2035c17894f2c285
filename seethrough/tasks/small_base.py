"""The stages that make small bases in the hub's layout."""

from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.models.small_base import save_small_base, save_small_marigold
from seethrough.models.small_base_sd3 import save_small_sd3
from seethrough.recipes.small_base import SmallBase, SmallMarigold, SmallSD3
from seethrough.tasks.task import StageContext, StageResult


def small_base_stage(stage: SmallBase, context: StageContext) -> StageResult:
    """Write tokenizers, text encoders, scheduler, UNet and autoencoder."""
    folder = context.directory / "base"
    save_small_base(
        folder,
        vae=context.path(stage.vae),
        captions=[*TRAINING_TAGS, LEGWEAR_WITH_FOOTWEAR],
        seed=stage.seed,
        block_out_channels=stage.channels,
        layers_per_block=stage.layers,
        transformer_layers_per_block=stage.transformer_layers,
        attention_heads=stage.heads,
        norm_num_groups=stage.norm_groups,
        text_widths=stage.text_widths,
        text_length=stage.text_length,
    )
    context.report(f"{context.name}: stands in for a pretrained base: {folder}")
    return StageResult({"base": folder})


def small_marigold_stage(stage: SmallMarigold, context: StageContext) -> StageResult:
    """Write tokenizer, text encoder, scheduler, UNet and autoencoder."""
    folder = context.directory / "base"
    save_small_marigold(
        folder,
        vae=context.path(stage.vae),
        seed=stage.seed,
        block_out_channels=stage.channels,
        layers_per_block=stage.layers,
        attention_heads=stage.heads,
        norm_num_groups=stage.norm_groups,
        text_width=stage.text_width,
    )
    context.report(f"{context.name}: stands in for Marigold: {folder}")
    return StageResult({"base": folder})


def small_sd3_stage(stage: SmallSD3, context: StageContext) -> StageResult:
    """Write tokenizers, text encoders, scheduler, transformer and autoencoder."""
    folder = context.directory / "base"
    save_small_sd3(
        folder,
        vae=context.path(stage.vae),
        seed=stage.seed,
        heads=stage.heads,
        head_channels=stage.head_channels,
        layers=stage.layers,
        dual_layers=range(stage.layers // 2),
        positions=stage.positions,
        text_widths=stage.text_widths,
        text_length=stage.text_length,
    )
    context.report(f"{context.name}: stands in for Stable Diffusion 3.5: {folder}")
    return StageResult({"base": folder})
