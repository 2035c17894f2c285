"""Keys of the Marigold trainings, 2D and 3D, and of Depth Anything V2's."""

from typing import Any

from seethrough.import_yaml.common import COMMON, DEFAULTS, MEASURED, PICTURES
from seethrough.import_yaml.layerdiff import groups
from seethrough.import_yaml.rules import By, Import, Layout, Rule, To, Without, source
from seethrough.recipe import Local, RecipeError
from seethrough.recipes.depth_anything import DepthAnythingChain
from seethrough.recipes.frames_alone import Marigold3DAlone
from seethrough.recipes.marigold import Marigold2DChain

INHERITED = Without("inherited from Marigold's own training; the program doesn't read it")


def noise(made: Import, value: Any) -> None:
    if value is None:
        made.put("objective.noise_strength", 0.0)


def loss(made: Import, name: Any) -> None:
    if name != "mse_loss":
        raise RecipeError(f"{name!r}: training is by mse_loss alone")


def reduction(made: Import, name: Any) -> None:
    if name != "mean":
        raise RecipeError(f"{name!r}: the loss is a mean")


def depth_scale(made: Import, name: Any) -> None:
    if name != "marigold":
        raise RecipeError(f"{name!r}: depth is scaled as 'marigold' says")


def off(made: Import, wanted: Any) -> None:
    if wanted:
        raise RecipeError("has no counterpart: set it to false or 0")


def start(made: Import, value: Any) -> None:
    """3D: the program names the weights it starts from itself."""
    if value is None:
        made.open["train_3d.model.unet"] = (
            "the program names the weights that it starts from in its code: give a conversion, as "
            "the stage inflate of marigold3d_v3 makes it"
        )
    else:
        made.put("model.unet", source(value))


SHARED: dict[str, Rule] = {
    "pretrained_model_name_or_path": To("model.base", source),
    "pretrained_model": INHERITED,
    "multi_res_noise": By(noise),
    "multi_res_noise.strength": To("objective.noise_strength"),
    "multi_res_noise.annealed": To("objective.noise_annealed"),
    "multi_res_noise.downscale_strategy": To("objective.noise_downscale"),
    "loss.name": By(loss),
    "loss.kwargs.reduction": By(reduction),
    "validation.denoising_steps": To("sampler.steps"),
    "validation.ensemble_size": Without("one prediction is measured"),
    "validation.processing_res": Without("it is made at the size of training"),
    "validation.match_input_res": Without("it is made at the size of training"),
    "validation.resample_method": Without("it is made at the size of training"),
    "validation.init_seed": INHERITED,
    "validation.main_val_metric": INHERITED,
    "validation.main_val_metric_goal": INHERITED,
    "eval.alignment": INHERITED,
    "eval.align_max_res": INHERITED,
    "eval.eval_metrics": INHERITED,
    "gt_depth_type": INHERITED,
    "gt_mask_type": INHERITED,
    "dataset_args.random_pad_prob": To("data.random_pad"),
    "dataset_args.normalize_depth": By(depth_scale),
    "dataset_args.to_depth": By(off),
    "dataset_args.load_depth_cond": By(off),
    "dataset_args.depth_cond_prob": By(off),
    "dataset_args.pad_argb": Without("colour is always filled where the network computes"),
}

OF_3D: dict[str, Rule] = {
    "pretrained_unet": By(start),
    "dataset_args.mix_tag_groups": By(groups),
    "dataset_args.ngroup_iters": To("data.ngroup_iters"),
    "dataset_args.include_blend_cls": To("data.page_frame"),
}

_UNUSED = Without("the program's 3D dataset takes it and makes none")

DEPTH_DEFAULTS: dict[str, Any] = {
    **DEFAULTS,
    "dataset_args.target_size": 896,
    "dataset_args.random_flip": 0.0,
}

MARIGOLD_2D = Layout(
    "Marigold 2D",
    Marigold2DChain,
    "train_2d",
    {
        **COMMON,
        **MEASURED,
        **PICTURES,
        **SHARED,
        **dict.fromkeys(OF_3D, Without("2D training has no groups of frames")),
        "pretrained_unet": To("model.unet", source),
        "dataset_args.random_pad_prob": Without("whole pages have no margins to grow by"),
        "dataset_args.random_crop": To("data.random_crop"),
        "dataset_args.random_crop_ratio": To("data.random_crop_ratio"),
        "dataset_args.random_hsv": To("data.random_hsv"),
    },
    {
        **DEPTH_DEFAULTS,
        "dataset_args.random_crop": 0.0,
        "dataset_args.random_crop_ratio": 0.3,
        "dataset_args.random_hsv": 0.0,
    },
)

MARIGOLD_3D = Layout(
    "Marigold 3D",
    Marigold3DAlone,
    "train_3d",
    {
        **COMMON,
        **MEASURED,
        **PICTURES,
        **SHARED,
        "dataset_args.random_crop": _UNUSED,
        "dataset_args.random_crop_ratio": _UNUSED,
        "dataset_args.random_hsv": _UNUSED,
        **OF_3D,
    },
    {
        **DEPTH_DEFAULTS,
        "pretrained_unet": None,
        "dataset_args.random_pad_prob": 0.0,
        "dataset_args.ngroup_iters": 1,
        "dataset_args.include_blend_cls": False,
    },
)

METRIC_WEIGHTS = "depth_anything_v2_metric_hypersim_vitl.pth"


def weights(made: Import, name: Any) -> None:
    """Relative depth is the recipe's own start; metric depth is a file to fetch."""
    if "metric" in str(name):
        made.put("model.weights", Local(METRIC_WEIGHTS))
        made.open["model_type"] = (
            f"{METRIC_WEIGHTS} of the hub's Depth-Anything-V2-Metric-Hypersim-Large has to lie in "
            "a data root"
        )
    if "ctrl" in str(name):
        made.open["model_type"] = (
            "the published adapter can't run: this is the plain network; "
            "depth_anything_adapter has one"
        )


DEPTH_ANYTHING = Layout(
    "Depth Anything V2",
    DepthAnythingChain,
    "train",
    {
        **COMMON,
        **MEASURED,
        **PICTURES,
        "model_type": By(weights),
        "encoder": Without("the program doesn't read it; the weights tell their size"),
        "loss_gradient_matching_scale": To("loss.gradient_matching"),
        "loss_affine_invariant_scale": To("loss.affine_invariant"),
        "loss_siglog_scale": To("loss.scale_invariant_log"),
        "ignore_mask": To("loss.ignore_mask"),
        "scale_before_loss": To("loss.scale_before_loss"),
        "dataset_args.random_crop": To("data.random_crop"),
        "dataset_args.random_crop_ratio": To("data.random_crop_ratio"),
        "dataset_args.random_hsv": To("data.random_hsv"),
        "dataset_args.normalize_depth": By(off),
        "dataset_args.to_depth": By(off),
        "dataset_args.load_depth_cond": By(off),
        "dataset_args.depth_cond_prob": By(off),
        "loss": Without("the program has its own"),
        "multi_res_noise": Without("nothing is noisy"),
        "validation": Without("the network predicts in one pass"),
        "eval": INHERITED,
    },
    {
        **DEPTH_DEFAULTS,
        "loss_gradient_matching_scale": 1.0,
        "loss_affine_invariant_scale": 1.0,
        "loss_siglog_scale": 0.0,
        "ignore_mask": False,
        "scale_before_loss": True,
        "dataset_args.random_crop": 0.0,
        "dataset_args.random_crop_ratio": 0.3,
        "dataset_args.random_hsv": 0.0,
    },
)
