"""Keys of the LayerDiff trainings, 2D and 3D."""

from collections.abc import Mapping
from typing import Any

from seethrough.import_yaml.common import COMMON, DEFAULTS, PICTURES, UNMEASURED
from seethrough.import_yaml.rules import (
    Beside,
    By,
    Import,
    Layout,
    Rule,
    To,
    Without,
    source,
    words,
)
from seethrough.recipe import RecipeError
from seethrough.recipe.errors import nearest
from seethrough.recipes.frames_alone import LayerDiff3DAlone
from seethrough.recipes.layerdiff import LayerDiff2DChain

GROUP_KEYS = ("tags", "crop_tag_list", "size_skip_tags", "random_tag_prob", "cond_tags")


def size_groups(made: Import, value: Any) -> None:
    made.put("data.size_groups", tuple(words(group) for group in value or ()))


def groups(made: Import, value: Any) -> None:
    """Groups of tags; what a group leaves out of its crop is taken off its tags."""
    tags: list[tuple[str, ...]] = []
    crops: list[tuple[str, ...]] = []
    for group in value or ():
        if not isinstance(group, Mapping) or "tags" not in group:
            raise RecipeError(f"expected mappings with tags, found {group!r}")
        for key in group:
            if key not in GROUP_KEYS:
                raise RecipeError(f"{key} is no key of a group; {nearest(key, GROUP_KEYS)}")
        tags.append(words(group["tags"]))
        skipped = words(group.get("size_skip_tags") or ())
        cropped = group.get("crop_tag_list") or [tag for tag in tags[-1] if tag not in skipped]
        crops.append(words(cropped))
    made.put("data.groups", tuple(tags))
    made.put("data.crop_tags", () if crops == tags else tuple(crops))


def bias_range(made: Import, begin: Any) -> None:
    made.put("objective.timestep_bias_range", (begin, made.get("timestep_bias_end")))


def average(made: Import, wanted: Any) -> None:
    if wanted:
        made.put("optim.ema_decay", 0.9999)
        made.open["use_ema"] = "the program has no decay and can't run with it: 0.9999"


def channels(made: Import, value: Any) -> None:
    """8 input channels, or 12 with the condition on masks."""
    needed = 12 if made.get("dataset_args.mask_cond") else 8
    if value != needed:
        raise RecipeError(f"{value} channels, but dataset_args.mask_cond makes it {needed}")


def own_vae(made: Import, value: Any) -> None:
    if value not in (None, made.get("pretrained_model_name_or_path")):
        made.open["pretrained_vae_model_name_or_path"] = (
            "the autoencoder is the base's: put it there as `vae`"
        )


def frames(made: Import, count: Any) -> None:
    made.put("data.pad_frames", max(int(count), 0))


SHARED: dict[str, Rule] = {
    "pretrained_model_name_or_path": To("model.base", source),
    "pretrained_vae_model_name_or_path": By(own_vae),
    "pretrained_unet": To("model.unet", source),
    "prediction_type": To("objective.prediction_type"),
    "snr_gamma": To("objective.snr_gamma"),
    "noise_offset": To("objective.noise_offset"),
    "proportion_empty_prompts": To("objective.empty_prompt_probability"),
    "vae_use_offset_prob": To("objective.offset_probability"),
    "timestep_bias_strategy": To("objective.timestep_bias"),
    "timestep_bias_multiplier": To("objective.timestep_bias_multiplier"),
    "timestep_bias_portion": To("objective.timestep_bias_portion"),
    "timestep_bias_begin": By(bias_range),
    "timestep_bias_end": Beside("timestep_bias_begin"),
    "use_ema": By(average),
    "guidance_scale": Without("pictures are drawn without guidance"),
    "test_negative_prompt": Without("pictures are drawn without guidance"),
    "dataset_args.random_pad_prob": To("data.random_pad"),
    "dataset_args.mix_tag_prob": Without("the program doesn't read it"),
    "dataset_args.include_blend_cls": Without("the program doesn't read it"),
}

NOTHING_AT_RANDOM: dict[str, Any] = {
    "pretrained_unet": None,
    "snr_gamma": None,
    "noise_offset": 0.0,
    "proportion_empty_prompts": 0.0,
    "vae_use_offset_prob": 0.5,
    "timestep_bias_strategy": "none",
    "timestep_bias_multiplier": 1.0,
    "timestep_bias_begin": 0,
    "timestep_bias_end": 1000,
    "timestep_bias_portion": 0.25,
    "dataset_args.target_size": 1024,
    "dataset_args.random_flip": 0.0,
    "dataset_args.random_pad_prob": 0.0,
}

OF_2D: dict[str, Rule] = {
    "model_args.in_channels": By(channels),
    "dataset_args.mask_cond": To("data.mask_condition"),
    "dataset_args.random_aug_mask": To("data.random_mask"),
    "dataset_args.load_ojects": To("data.load_objects"),
    "dataset_args.target_size_groups": By(size_groups),
}

OF_3D: dict[str, Rule] = {
    "learnable_parameters": To("model.learn"),
    "dataset_args.mix_tag_groups": By(groups),
    "dataset_args.ngroup_iters": To("data.ngroup_iters"),
    "dataset_args.pad_num_frames": By(frames),
}


def _otherwise(rules: Mapping[str, Rule], reason: str) -> dict[str, Rule]:
    return dict.fromkeys(rules, Without(reason))


LAYERDIFF_2D = Layout(
    "LayerDiff 2D",
    LayerDiff2DChain,
    "train_2d",
    {
        **COMMON,
        **UNMEASURED,
        **PICTURES,
        **SHARED,
        **_otherwise(OF_3D, "2D training has no groups of frames"),
        "temporal_lr": Without("2D training has no blocks across frames"),
        "dataset_args.pad_argb": Without("colour is always filled where the network computes"),
        **OF_2D,
    },
    {
        **DEFAULTS,
        **NOTHING_AT_RANDOM,
        "dataset_args.mask_cond": True,
        "dataset_args.random_aug_mask": 0.0,
        "dataset_args.load_ojects": True,
        "dataset_args.target_size_groups": [],
    },
)

LAYERDIFF_3D = Layout(
    "LayerDiff 3D",
    LayerDiff3DAlone,
    "train_3d",
    {
        **COMMON,
        **UNMEASURED,
        **PICTURES,
        **SHARED,
        **_otherwise(OF_2D, "only 2D training reads it"),
        "temporal_lr": Without(
            "the program doesn't read it; here train_3d.model.temporal_lr is such a rate"
        ),
        "dataset_args.pad_argb": Without("colour is always filled where the network computes"),
        **OF_3D,
    },
    {
        **DEFAULTS,
        **NOTHING_AT_RANDOM,
        "learnable_parameters": "all",
        "dataset_args.ngroup_iters": 1,
        "dataset_args.pad_num_frames": -1,
    },
)
