"""Keys that the training programs of the first project share."""

import math
from collections.abc import Mapping
from typing import Any

from seethrough.import_yaml.rules import (
    Beside,
    By,
    Import,
    Rule,
    To,
    Without,
    numbers,
    source,
)
from seethrough.recipe import RecipeError
from seethrough.recipe.base import values
from seethrough.recipe.errors import nearest
from seethrough.recipes.training import AdamW8bit

LR_SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine",
    "polynomial": "polynomial",
    "piecewise_constant": "piecewise",
}

PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}

DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 500,
    "max_grad_norm": 1.0,
    "train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 200,
    "max_train_steps": None,
}
"""Of all these programs, for what results depend on."""


def optimizer(made: Import, name: Any) -> None:
    """Their only optimizer that works is AdamW."""
    if name != "adamw":
        made.open["optimizer"] = f"{name} is none that a recipe has: it stays AdamW"


def eight_bits(made: Import, wanted: Any) -> None:
    if wanted:
        made.put("optim", AdamW8bit(**values(made.section("optim"))))


def betas(made: Import, value: Any) -> None:
    pair = numbers(value)
    if len(pair) != 2:
        raise RecipeError(f"expected two numbers, found {value!r}")
    made.put("optim.betas", pair)


def schedule(made: Import, name: Any) -> None:
    """Shape and warm-up; the constant one of these programs has none."""
    if name not in LR_SCHEDULES:
        raise RecipeError(f"{name!r} is no schedule; {nearest(str(name), LR_SCHEDULES)}")
    made.put("schedule.lr_schedule", LR_SCHEDULES[name])
    warms_up = name not in ("constant", "piecewise_constant")
    made.put("schedule.warmup_steps", made.get("lr_warmup_steps") if warms_up else 0)
    if name == "piecewise_constant":
        made.put("schedule.pieces", _pieces(made.get("lr_scheduler_step_rules")))


def _pieces(rules: Any) -> tuple[tuple[int, float], ...]:
    """`1:10,0.1:20,0.01`: 1 for 10 steps, 0.1 up to step 20, then 0.01."""
    try:
        *pairs, last = str(rules).split(",")
        ends = [(int(end), float(share)) for share, end in (pair.split(":") for pair in pairs)]
        ends.sort()
        begins = [0, *(end for end, _ in ends)]
        return tuple(zip(begins, [*(share for _, share in ends), float(last)], strict=True))
    except ValueError:
        raise RecipeError(
            f"lr_scheduler_step_rules is {rules!r}; expected SHARE:STEP,...,SHARE"
        ) from None


def batch(made: Import, micro_batch: Any) -> None:
    """Samples of a step: of each process and pass, times passes, times processes."""
    share = (micro_batch, made.get("gradient_accumulation_steps"))
    if not all(type(one) is int and one > 0 for one in share):
        raise RecipeError(f"expected whole numbers above 0, found {share[0]!r} and {share[1]!r}")
    if made.options.processes is None:
        made.open["processes"] = (
            f"how many GPUs it ran on isn't in it: {made.processes}, as in the recipe, unless "
            "--processes says otherwise"
        )
    made.put("hardware.processes", made.processes)
    made.put("hardware.micro_batch", micro_batch)
    made.put("data.global_batch", micro_batch * share[1] * made.processes)


def length(made: Import, steps: Any) -> None:
    """Steps, or epochs of samples whose number has to be told."""
    if steps is not None:
        made.put("schedule.max_steps", steps)
        warmup = made.now("schedule.warmup_steps")
        if warmup >= steps:
            made.put("schedule.warmup_steps", steps - 1)
            made.open["lr_warmup_steps"] = f"{warmup} of {steps} steps: {steps - 1} here"
        return
    epochs = made.get("num_train_epochs")
    if made.options.samples is None:
        made.open["num_train_epochs"] = (
            f"{epochs} epochs of samples whose number isn't in it: schedule.max_steps is "
            f"{made.now('schedule.max_steps')}, unless --samples tells the number"
        )
        return
    batches = made.options.samples // (made.get("train_batch_size") * made.processes)
    per_epoch = math.ceil(batches / made.get("gradient_accumulation_steps"))
    made.put("schedule.max_steps", per_epoch * epochs)


def sample_lists(made: Import, value: Any) -> None:
    """A path, a mapping with `sample_list` and perhaps `sample_rate`, or a list of these."""
    found = [_sample_list(one) for one in (value if isinstance(value, list) else [value])]
    made.put("data.sources", tuple(found))


def _sample_list(given: Any) -> tuple[Any, int]:
    if isinstance(given, str):
        return source(given), 1
    if not isinstance(given, Mapping) or "sample_list" not in given:
        raise RecipeError(f"expected a path or a mapping with sample_list, found {given!r}")
    unknown = set(given) - {"sample_list", "sample_rate", "label_dir", "label_list"}
    if unknown:
        known = ("sample_list", "sample_rate", "label_dir", "label_list")
        raise RecipeError(f"{min(unknown)} is no key of a list; {nearest(min(unknown), known)}")
    if given.get("label_dir"):
        raise RecipeError("label_dir: labels lie beside their pictures here; move them there")
    return source(given["sample_list"]), int(given.get("sample_rate", 1))


def held_out(made: Import, given: Any) -> None:
    """The list of a validation's dataset, of which the recipe takes one."""
    if given is None:
        return
    lists = given.get("src_list") if isinstance(given, Mapping) else None
    (one, *more) = lists if isinstance(lists, list) else [lists]
    if one is None or more:
        raise RecipeError(f"expected a mapping whose src_list is one list, found {lists!r}")
    made.put("data.validation", _sample_list(one)[0])
    made.put("schedule.validate_every", made.get("validation_steps"))
    if set(given) - {"src_list"}:
        made.open["valset_args"] = "held-out samples are cut as those of training, not at random"


def validation(made: Import, _: Any) -> None:
    if made.get("valset_args") is None:
        made.without["validation_steps"] = "no valset_args name held-out samples"


UNMEASURED: dict[str, Rule] = {
    "valset_args": Without("the program measures no held-out samples"),
    "validation_steps": Without("the program measures no held-out samples"),
}
"""Of programs without validation."""

MEASURED: dict[str, Rule] = {
    "valset_args": By(held_out),
    "validation_steps": By(validation),
}

COMMON: dict[str, Rule] = {
    "seed": To("seed"),
    "learning_rate": To("optim.lr"),
    "scale_lr": To("optim.lr_scaling", lambda on: "global_batch" if on else "none"),
    "optimizer": By(optimizer),
    "optimizer_args.betas": By(betas),
    "optimizer_args.weight_decay": To("optim.weight_decay"),
    "optimizer_args.eps": To("optim.eps"),
    "use_8bit_adam": By(eight_bits),
    "max_grad_norm": To("optim.max_grad_norm"),
    "mixed_precision": To("optim.precision", lambda name: PRECISIONS.get(name, name)),
    "lr_scheduler": By(schedule),
    "lr_warmup_steps": Beside("lr_scheduler"),
    "lr_scheduler_step_rules": Beside("lr_scheduler"),
    "train_batch_size": By(batch),
    "gradient_accumulation_steps": Beside("train_batch_size"),
    "max_train_steps": By(length),
    "num_train_epochs": Beside("max_train_steps"),
    "checkpointing_steps": To("schedule.checkpoint_every"),
    "checkpoints_total_limit": To("schedule.keep_checkpoints"),
    "visualization_steps": To("schedule.pictures_every"),
    "dataloader_num_workers": To("hardware.loader_workers"),
    "gradient_checkpointing": To("hardware.gradient_checkpointing"),
    "report_to": To("tracking.tracker"),
    "tracker_project_name": To("tracking.project"),
    "tracker_init_kwargs": Without("a tracker is told the project alone"),
    "output_dir": Without("results go below --runs"),
    "logging_dir": Without("logs lie in the stage's folder"),
    "resume_from_checkpoint": Without("the same command goes on from the newest checkpoint"),
    "init_from_ckpt": Without("the program doesn't read it"),
    "max_train_samples": Without("the program doesn't read it"),
    "max_visualize_samples": Without("the number of pictures is fixed"),
    "visualization_size": Without("the size of pictures is fixed"),
    "visualize_src": Without("pictures are of the samples"),
    "val_batch_size": Without("validation measures sample by sample"),
    "val_mask_thr": Without("the threshold of masks is fixed"),
    "val_visualize_interval": Without("pictures follow visualization_steps"),
    "allow_tf32": Without("PyTorch's own setting"),
    "enable_xformers_memory_efficient_attention": Without("PyTorch's attention is used"),
    "local_rank": Without("launchers say it"),
    "config": Without("it names the file itself"),
    "revision": Without("write it into the base: hub:OWNER/NAME@REVISION"),
    "variant": Without("weights of any type are cast as they are read"),
    "model_type": Without("which program it is of, other keys tell"),
}
"""Of all these programs."""

PICTURES: dict[str, Rule] = {
    "dataset_args.src_list": By(sample_lists),
    "dataset_args.target_size": To("data.target_size"),
    "dataset_args.random_flip": To("data.random_flip"),
    "dataset_args.pixel_mean": Without("what the network expects is fixed"),
    "dataset_args.pixel_std": Without("what the network expects is fixed"),
    "dataset_args.tag_list": Without("masks are found by the names of their tags"),
    "dataset_args.contrl_signals": Without("the program doesn't read it"),
}
"""Of their datasets."""
